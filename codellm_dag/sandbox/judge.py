"""Verdicts, formed outside the sandbox from expected values that never entered it.

Comparison follows Python's ``==`` on plain values: ``True == 1 == 1.0``, a list is not a tuple, a set equals
a frozenset, the order of a dict does not matter. Two differences, both so that a test can be met at all: nan
equals nan, and a value that is not plain data equals nothing, whatever its ``__eq__`` says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal, Protocol, get_args

from codellm_dag.sandbox.decode import InvalidValueError, node_of_literal, parse, to_python
from codellm_dag.sandbox.inside.values import Node, int_text
from codellm_dag.sandbox.programs import Call, Execution, Output, View

Comparison = Literal[
    "equal", "not_equal", "identical", "almost", "within", "relative", "truthy", "falsy",
    "equal_as_tuple", "equal_as_list", "equal_as_set", "equal_sorted", "any",
]  # fmt: skip
"""How an output is held against the expected value.

``equal`` and ``not_equal``: Python's ``==``. ``identical``: equal and of the same type, as ``is True`` means.
Numbers, also within containers: ``almost`` |a − b| ≤ tolerance · max(1, |a|, |b|); ``within`` |a − b| <
tolerance; ``relative`` |a − b| ≤ tolerance · max(|a|, |b|). ``equal_as_…`` and ``equal_sorted``: equal after
both are made a tuple, list or set, or sorted. The expected value is not looked at by ``truthy`` and ``falsy``
(``bool(output)``) and by ``any``, which takes whatever is returned.
"""
VIEWS: dict[str, View] = {
    "equal_as_tuple": "tuple", "equal_as_list": "list", "equal_as_set": "set", "equal_sorted": "sorted",
    "truthy": "bool", "falsy": "bool",
}  # fmt: skip
"""What a comparison has the result made into before it is returned, as the assertion it came from does."""


class Verdict(StrEnum):
    """What is known about a program. `INFRASTRUCTURE_ERROR` is neither pass nor fail and never scores 0."""

    PASS = "pass"
    FAIL = "fail"
    INFRASTRUCTURE_ERROR = "infrastructure_error"


@dataclass(frozen=True)
class Test:
    """A call and the literal source text of what it must return."""

    __test__ = False  # pytest must not collect it

    call: Call
    expected: str
    comparison: Comparison = "equal"
    tolerance: float = 0.0


class CallLike(Protocol):
    """The part of a test's call that running it needs."""

    @property
    def args(self) -> Sequence[str]: ...
    @property
    def kwargs(self) -> Mapping[str, str]: ...


class TestLike(Protocol):
    """The part of a test that running and judging need; `problems.schema.Test` has it too."""

    @property
    def call(self) -> CallLike: ...
    @property
    def expected(self) -> str: ...
    @property
    def comparison(self) -> str: ...
    @property
    def tolerance(self) -> float: ...


@dataclass(frozen=True)
class Judgement:
    """A verdict and what it rests on: one bool a test, and the first failure in words."""

    verdict: Verdict
    passed: tuple[bool, ...]
    detail: str = ""


def calls_for(tests: Sequence[TestLike], entry_point: str) -> tuple[Call, ...]:
    """The calls to run so that output i can be held against test i."""
    return tuple(
        Call(entry_point, tuple(test.call.args), dict(test.call.kwargs), view=VIEWS.get(test.comparison, ""))
        for test in tests
    )


def judge(execution: Execution, tests: Sequence[TestLike]) -> Verdict:
    """`judge_each` without the details."""
    return judge_each(execution, tests).verdict


def judge_each(execution: Execution, tests: Sequence[TestLike]) -> Judgement:
    """Hold output i of the execution against test i; it passes if it finished and every test does.

    Raises ValueError when there are no tests (nothing would be judged) and InvalidValueError when an expected
    value is not a literal.
    """
    if not tests:
        raise ValueError("no tests: a verdict needs at least one")
    if execution.status == "infrastructure_error":
        return Judgement(Verdict.INFRASTRUCTURE_ERROR, (False,) * len(tests), execution.detail)
    outputs = execution.outputs
    passed = tuple(i < len(outputs) and meets(outputs[i], test) for i, test in enumerate(tests))
    if execution.status == "finished" and all(passed):
        return Judgement(Verdict.PASS, passed)
    return Judgement(Verdict.FAIL, passed, _why(execution, tests, passed))


def judge_inside(execution: Execution) -> Verdict:
    """Verdict of an assert script that judged itself: forgeable, so never a reward and counted as such."""
    if execution.status == "infrastructure_error":
        return Verdict.INFRASTRUCTURE_ERROR
    return Verdict.PASS if execution.status == "finished" else Verdict.FAIL


def judge_stdout(execution: Execution, expected: str) -> Verdict:
    """Verdict of a stdin program: its standard output against `expected`, but for white space at line ends
    and empty lines at the end."""
    if execution.status == "infrastructure_error":
        return Verdict.INFRASTRUCTURE_ERROR
    same = _lines(execution.stdout) == _lines(expected)
    return Verdict.PASS if execution.status == "finished" and same else Verdict.FAIL


def _lines(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _why(execution: Execution, tests: Sequence[TestLike], passed: Sequence[bool]) -> str:
    ending = "" if execution.status == "finished" else f"{execution.status}: {execution.detail}"
    if all(passed):
        return ending
    first = passed.index(False)
    if first >= len(execution.outputs):
        return ending or f"call {first} gave no output"
    output = execution.outputs[first]
    got = output.value if output.ok and output.value is not None else output.detail
    return f"call {first} gave {got[:200]}, expected {tests[first].comparison} {tests[first].expected[:200]}"


def meets(output: Output, test: TestLike) -> bool:
    """Whether one output meets one test. Raises InvalidValueError if the expected value is not a literal."""
    if test.comparison not in get_args(Comparison):
        allowed = ", ".join(get_args(Comparison))
        raise ValueError(f"comparison = {test.comparison!r}: must be one of {allowed}")
    expected = node_of_literal(test.expected)
    if not output.ok or output.value is None:
        return False
    try:
        return _compare(parse(output.value), expected, test.comparison, test.tolerance)
    except InvalidValueError:
        return False


def _compare(got: Node, expected: Node, comparison: str, tolerance: float) -> bool:
    match comparison:
        case "equal":
            return equality_key(got) == equality_key(expected)
        case "not_equal":
            return equality_key(got) != equality_key(expected)
        case "identical":
            return got == expected
        case "any":
            return True
        case "truthy" | "falsy":
            return truth(got) is (comparison == "truthy")
        case "almost" | "within" | "relative":
            return _close(got, expected, comparison, tolerance)
        case _:
            return _viewed(got, comparison) == _viewed(expected, comparison)


NUMBERS = frozenset({"bool", "int", "float", "complex", "fraction", "decimal"})
_LARGEST_EXPONENT = 5_000


def equality_key(node: Node) -> str:
    """Text that two nodes share exactly if Python's ``==`` holds between their values (nan equals nan)."""
    tag, value = node["t"], node.get("v")
    if tag in NUMBERS:
        return _number_key(to_python(node))
    if tag in ("list", "tuple"):
        return f"{tag}[{','.join(map(equality_key, _parts(node)))}]"
    if tag in ("set", "frozenset"):
        return f"set[{','.join(sorted(set(map(equality_key, _parts(node)))))}]"
    if tag == "dict":
        pairs = {equality_key(key): equality_key(item) for key, item in _pairs(node)}
        return f"dict[{','.join(f'{key}:{pairs[key]}' for key in sorted(pairs))}]"
    return f"{'bytes' if tag == 'bytearray' else tag}{json.dumps(value)}"


def _number_key(number: Any) -> str:
    """Numbers of all types are equal if they are the same exact fraction."""
    if isinstance(number, complex):
        if number.imag == 0:
            return _number_key(number.real)
        return f"complex[{_number_key(number.real)},{_number_key(number.imag)}]"
    if isinstance(number, Decimal) and number.is_finite() and abs(number.adjusted()) > _LARGEST_EXPONENT:
        return f"decimal[{number.normalize()}]"  # beyond any float; its exact fraction could be enormous
    if isinstance(number, (float, Decimal)) and not math.isfinite(number):
        return repr(float(number)) if not isinstance(number, Decimal) or not number.is_snan() else "nan"
    numerator, denominator = number.as_integer_ratio()
    return int_text(numerator) if denominator == 1 else f"{int_text(numerator)}/{int_text(denominator)}"


def truth(node: Node) -> bool:
    """``bool(value)`` of a plain value."""
    if node["t"] == "none":
        return False
    if node["t"] in ("list", "tuple", "set", "frozenset", "dict"):
        return bool(node["v"])
    return bool(to_python(node))


def _parts(node: Node) -> list[Node]:
    return node["v"]


def _pairs(node: Node) -> list[list[Node]]:
    return node["v"]


def _close(got: Node, expected: Node, comparison: str, tolerance: float) -> bool:
    kinds = {got["t"], expected["t"]}
    if kinds <= NUMBERS:
        return _numbers_close(to_python(got), to_python(expected), comparison, tolerance)
    if kinds in ({"list"}, {"tuple"}):
        pairs = list(zip(_parts(got), _parts(expected), strict=False))
        same_length = len(_parts(got)) == len(_parts(expected))
        return same_length and all(_close(left, right, comparison, tolerance) for left, right in pairs)
    if kinds == {"dict"}:
        left = {equality_key(key): item for key, item in _pairs(got)}
        right = {equality_key(key): item for key, item in _pairs(expected)}
        return left.keys() == right.keys() and all(
            _close(left[key], right[key], comparison, tolerance) for key in right
        )
    return equality_key(got) == equality_key(expected)


def _numbers_close(got: Any, expected: Any, comparison: str, tolerance: float) -> bool:
    if _number_key(got) == _number_key(expected):
        return comparison != "within" or tolerance > 0
    try:
        left, right = (n if isinstance(n, complex) else float(n) for n in (got, expected))
        distance, size = abs(left - right), max(abs(left), abs(right))
    except (OverflowError, ValueError):
        return False
    if not math.isfinite(distance) or not math.isfinite(size):
        return False
    if comparison == "within":
        return distance < tolerance
    return distance <= tolerance * (max(1.0, size) if comparison == "almost" else size)


def _viewed(node: Node, comparison: str) -> str | list[str]:
    """The parts of an iterable value as ``equal_as_…`` sees them."""
    match node["t"]:
        case "dict":
            parts = [key for key, _item in _pairs(node)]
        case "str":
            parts = [{"t": "str", "v": letter} for letter in node["v"]]
        case "list" | "tuple" | "set" | "frozenset":
            parts = _parts(node)
        case _:
            raise InvalidValueError(f"a {node['t']} is not iterable")
    if comparison == "equal_as_set":
        return sorted(set(map(equality_key, parts)))
    if comparison == "equal_sorted" or node["t"] in ("set", "frozenset"):
        return sorted(map(equality_key, parts))  # any one order serves, if both sides are put into it
    return list(map(equality_key, parts))
