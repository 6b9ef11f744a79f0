"""Verdicts, formed outside the sandbox from expected values that never entered it.

How values are compared is in `compare.py`. A call that raised, gave nothing or gave a value that is not plain
data meets no test, whatever that value's ``__eq__`` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, get_args

from codellm_dag.sandbox.compare import Comparison, check_expected, meets_text
from codellm_dag.sandbox.programs import Call, Execution, Output, View

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
    if output.ok and output.value is not None:
        return meets_text(output.value, test.expected, test.comparison, test.tolerance)
    check_expected(test.expected, test.comparison)
    return False
