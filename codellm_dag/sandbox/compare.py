"""How one output is held against one expected value, on checked nodes of canonical text.

Equality is Python's ``==`` on plain values: ``True == 1 == 1.0``, a list is not a tuple, a set equals a
frozenset, the order of a dict does not matter; and nan equals nan, so that a test can be met at all. Values
from the sandbox are not hashed by value: numbers could be chosen to make that quadratic.
"""

from __future__ import annotations

import functools
import json
import math
from decimal import Decimal
from typing import Any, Literal

from codellm_dag.sandbox.decode import InvalidValueError, node_of_literal, parse, to_python
from codellm_dag.sandbox.inside.values import Node, int_text
from codellm_dag.sandbox.predicates import holds

Comparison = Literal[
    "equal", "not_equal", "identical", "almost", "within", "relative", "truthy", "falsy",
    "equal_as_tuple", "equal_as_list", "equal_as_set", "equal_sorted", "any", "holds",
]  # fmt: skip
"""How an output is held against the expected value.

``equal`` and ``not_equal``: Python's ``==``. ``identical``: equal and of the same type, as ``is True`` means.
Numbers, also within containers: ``almost`` |a − b| ≤ tolerance · max(1, |a|, |b|); ``within`` |a − b| <
tolerance; ``relative`` |a − b| ≤ tolerance · max(|a|, |b|). ``equal_as_…`` and ``equal_sorted``: equal after
both are made a tuple, list or set, or sorted. The expected value is not looked at by ``truthy`` and ``falsy``
(``bool(output)``) and by ``any``, which takes whatever is returned. ``holds``: the expected text is not a
value but an expression over ``output`` that must be true (`predicates.py`).
"""


def meets_text(text: str, expected: str, comparison: str, tolerance: float) -> bool:
    """Whether canonical text from the sandbox meets an expectation.

    Raises InvalidValueError if the expected value is not a literal.
    """
    if comparison == "holds":
        return _holds(text, expected)
    wanted = _wanted(expected)
    try:
        return _compare(parse(text), wanted, comparison, tolerance)
    except InvalidValueError:
        return False


def check_expected(expected: str, comparison: str) -> None:
    """Raises InvalidValueError if the expected value is not a literal where it must be one."""
    if comparison != "holds":
        _wanted(expected)


@functools.lru_cache(maxsize=4096)
def _wanted(expected: str) -> Node:
    return node_of_literal(expected)


def _holds(text: str, predicate: str) -> bool:
    try:
        node = parse(text)
        return _size(node) <= _MOST_PARTS and holds(predicate, to_python(node))
    except InvalidValueError:
        return False


def _size(node: Node) -> int:
    if node["t"] in ("list", "tuple", "set", "frozenset"):
        return 1 + sum(map(_size, _parts(node)))
    if node["t"] == "dict":
        return 1 + sum(_size(key) + _size(item) for key, item in _pairs(node))
    return 1


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
_MOST_PARTS = 20_000
"""A predicate is not computed for larger outputs: their numbers could be chosen to make sets quadratic."""


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
