"""The steps that microbench problems are made of: each turns one value into another by one expression.

A primitive says what it does in plain English (several wordings) and in Python (one expression over the
variable ``{v}`` and, where it has a parameter, ``{k}``). Ways to use an operation (on one number, on each
number of a list, only if a condition holds) multiply a dozen operations and conditions into a few hundred
primitives. How primitives are chained is in `pipelines.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

INT, STR, INTS, STRS, BOOL = "int", "str", "list[int]", "list[str]", "bool"
"""The types of values, written as the annotations of the generated functions."""

Parameter = Literal["", "number", "letter", "word"]
"""What fills ``{k}``: nothing, an integer (2 to 9), one letter, or a short word."""


@dataclass(frozen=True)
class Primitive:
    """One step. ``key`` is its part of a template's name; ``wordings`` are clauses in the imperative.

    ``group``: two steps of one group that follow each other directly would undo or repeat each other, so
    pipelines do not hold such pairs ("" is in no group).
    """

    key: str
    source: str
    target: str
    code: str
    wordings: tuple[str, ...]
    parameter: Parameter = ""
    group: str = ""


@dataclass(frozen=True)
class _Operation:
    """A change of one number ``{x}``: its clauses for one number and for each number of a list."""

    key: str
    code: str
    one: tuple[str, ...]
    each: tuple[str, ...]
    parameter: Parameter = ""


@dataclass(frozen=True)
class _Condition:
    """A condition on one number ``{x}`` and the adjective that names it."""

    key: str
    code: str
    adjective: str
    parameter: Parameter = ""


_OPERATIONS = (
    _Operation("add", "{x} + {k}", ("add {k}", "add {k} to it"), ("add {k} to each number",), "number"),
    _Operation(
        "subtract",
        "{x} - {k}",
        ("subtract {k}", "subtract {k} from it"),
        ("subtract {k} from each number",),
        "number",
    ),
    _Operation(
        "multiply",
        "{x} * {k}",
        ("multiply by {k}", "multiply it by {k}"),
        ("multiply each number by {k}",),
        "number",
    ),
    _Operation("halve", "{x} // 2", ("halve it, rounding down",), ("halve each number, rounding down",)),
    _Operation(
        "remainder",
        "{x} % {k}",
        ("take the remainder modulo {k}",),
        ("take the remainder of each number modulo {k}",),
        "number",
    ),
    _Operation("square", "{x} * {x}", ("square it",), ("square each number",)),
    _Operation(
        "negate",
        "-{x}",
        ("negate it", "flip its sign"),
        ("negate each number", "flip the sign of each number"),
    ),
    _Operation(
        "absolute", "abs({x})", ("take the absolute value",), ("take the absolute value of each number",)
    ),
    _Operation("cap", "min({x}, {k})", ("cap it at {k}",), ("cap each number at {k}",), "number"),
    _Operation(
        "raise",
        "max({x}, {k})",
        ("raise it to at least {k}",),
        ("raise each number to at least {k}",),
        "number",
    ),
)

_CONDITIONS = (
    _Condition("even", "{x} % 2 == 0", "even"),
    _Condition("odd", "{x} % 2 == 1", "odd"),
    _Condition("positive", "{x} > 0", "positive"),
    _Condition("negative", "{x} < 0", "negative"),
    _Condition("greater", "{x} > {k}", "greater than {k}", "number"),
    _Condition("less", "{x} < {k}", "less than {k}", "number"),
    _Condition("divisible", "{x} % {k} == 0", "divisible by {k}", "number"),
    _Condition("other", "{x} != {k}", "different from {k}", "number"),
)


_NEARLY_ALWAYS_FOUND = ("even", "odd", "other")
"""Conditions that some number of a list nearly always meets: whether any does would be no question."""


def _from_operations() -> Iterator[Primitive]:
    for operation in _OPERATIONS:
        one, each = operation.code.replace("{x}", "{v}"), operation.code.replace("{x}", "x")
        yield Primitive(operation.key, INT, INT, one, operation.one, operation.parameter)
        yield Primitive(
            f"each-{operation.key}",
            INTS,
            INTS,
            f"[{each} for x in {{v}}]",
            operation.each,
            operation.parameter,
        )


def _from_conditions() -> Iterator[Primitive]:
    for condition in _CONDITIONS:
        x, adjective, parameter = condition.code.replace("{x}", "x"), condition.adjective, condition.parameter
        key = condition.key
        keep = (f"keep the numbers that are {adjective}", f"keep only numbers {adjective}")
        if not parameter:
            keep = (f"keep the {adjective} numbers", f"keep only the {adjective} numbers")
        drop = tuple(wording.replace("keep only", "keep").replace("keep", "remove") for wording in keep[:1])
        yield Primitive(f"keep-{key}", INTS, INTS, f"[x for x in {{v}} if {x}]", keep, parameter)
        yield Primitive(f"drop-{key}", INTS, INTS, f"[x for x in {{v}} if not {x}]", drop, parameter)
        count = (f"count the numbers that are {adjective}",)
        yield Primitive(f"count-{key}", INTS, INT, f"len([x for x in {{v}} if {x}])", count, parameter)
        any_, all_ = f"any({x} for x in {{v}})", f"all({x} for x in {{v}})"
        if key not in _NEARLY_ALWAYS_FOUND:
            words = (f"check whether any number is {adjective}",)
            yield Primitive(f"any-{key}", INTS, BOOL, any_, words, parameter)
        words = (f"check whether every number is {adjective}",)
        yield Primitive(f"all-{key}", INTS, BOOL, all_, words, parameter)
        if key != "other":
            code = condition.code.replace("{x}", "{v}")
            yield Primitive(f"is-{key}", INT, BOOL, code, (f"check whether it is {adjective}",), parameter)


def _conditional() -> Iterator[Primitive]:
    """``x // 2 if x % 2 == 0 else x``; at most one parameter, so that ``{k}`` is one value."""
    for condition in _CONDITIONS:
        for operation in _OPERATIONS:
            if condition.parameter and operation.parameter:
                continue
            code = f"{operation.code} if {condition.code} else {{x}}".replace("{x}", "{v}")
            wordings = tuple(f"if it is {condition.adjective}, {clause}" for clause in operation.one[-1:])
            parameter = condition.parameter or operation.parameter
            yield Primitive(f"if-{condition.key}-{operation.key}", INT, INT, code, wordings, parameter)


_LISTS = (
    Primitive(
        "sort",
        INTS,
        INTS,
        "sorted({v})",
        ("sort the numbers", "sort the numbers in ascending order"),
        group="order",
    ),
    Primitive(
        "sort-down",
        INTS,
        INTS,
        "sorted({v}, reverse=True)",
        ("sort the numbers in descending order",),
        group="order",
    ),
    Primitive("reverse", INTS, INTS, "{v}[::-1]", ("reverse the list", "reverse the order"), group="order"),
    Primitive("unique", INTS, INTS, "sorted(set({v}))", ("sort the distinct numbers",), group="order"),
    Primitive(
        "first",
        INTS,
        INTS,
        "{v}[:{k}]",
        ("take the first {k} numbers", "keep the first {k} numbers"),
        "number",
    ),
    Primitive(
        "last", INTS, INTS, "{v}[-{k}:]", ("take the last {k} numbers", "keep the last {k} numbers"), "number"
    ),
    Primitive("skip", INTS, INTS, "{v}[{k}:]", ("skip the first {k} numbers",), "number"),
    Primitive("alternate", INTS, INTS, "{v}[::2]", ("take every second number",)),
    Primitive("sum", INTS, INT, "sum({v})", ("add up the numbers", "take the sum")),
    Primitive(
        "largest", INTS, INT, "max({v}, default=0)", ("take the largest number, or 0 if there is none",)
    ),
    Primitive(
        "smallest", INTS, INT, "min({v}, default=0)", ("take the smallest number, or 0 if there is none",)
    ),
    Primitive("length", INTS, INT, "len({v})", ("count the numbers",)),
    Primitive("distinct", INTS, INT, "len(set({v}))", ("count the distinct numbers",)),
    Primitive("texts", INTS, STRS, "[str(x) for x in {v}]", ("turn each number into a string",)),
    Primitive("digits", INT, INTS, "[int(c) for c in str(abs({v}))]", ("list its digits",)),
    Primitive("text", INT, STR, "str({v})", ("turn it into a string",)),
)

_STRINGS = (
    Primitive("upper", STR, STR, "{v}.upper()", ("convert it to upper case",), group="case"),
    Primitive("lower", STR, STR, "{v}.lower()", ("convert it to lower case",), group="case"),
    Primitive("swap-case", STR, STR, "{v}.swapcase()", ("swap the case of each letter",), group="case"),
    Primitive("strip", STR, STR, "{v}.strip()", ("strip the spaces around it",), group="strip"),
    Primitive("backwards", STR, STR, "{v}[::-1]", ("reverse it",), group="order"),
    Primitive("replace", STR, STR, "{v}.replace(' ', '{k}')", ("replace each space with '{k}'",), "letter"),
    Primitive(
        "delete", STR, STR, "{v}.replace('{k}', '')", ("remove every '{k}'", "delete each '{k}'"), "letter"
    ),
    Primitive("head", STR, STR, "{v}[:{k}]", ("take the first {k} characters",), "number"),
    Primitive("tail", STR, STR, "{v}[-{k}:]", ("take the last {k} characters",), "number"),
    Primitive("repeat", STR, STR, "{v} * {k}", ("repeat it {k} times",), "number"),
    Primitive("append", STR, STR, "{v} + '{k}'", ("append '{k}'",), "word"),
    Primitive("prepend", STR, STR, "'{k}' + {v}", ("put '{k}' in front",), "word"),
    Primitive("size", STR, INT, "len({v})", ("count its characters",)),
    Primitive("occurrences", STR, INT, "{v}.count('{k}')", ("count how often '{k}' occurs",), "letter"),
    Primitive(
        "starts", STR, BOOL, "{v}.startswith('{k}')", ("check whether it starts with '{k}'",), "letter"
    ),
    Primitive("ends", STR, BOOL, "{v}.endswith('{k}')", ("check whether it ends with '{k}'",), "letter"),
    Primitive("contains", STR, BOOL, "'{k}' in {v}", ("check whether it contains '{k}'",), "letter"),
    Primitive("words", STR, STRS, "{v}.split()", ("split it into words",)),
)

_WORDS = (
    Primitive("sort-words", STRS, STRS, "sorted({v})", ("sort the words",), group="order"),
    Primitive("by-length", STRS, STRS, "sorted({v}, key=len)", ("sort the words by length",), group="order"),
    Primitive("reverse-words", STRS, STRS, "{v}[::-1]", ("reverse the order of the words",), group="order"),
    Primitive("first-words", STRS, STRS, "{v}[:{k}]", ("take the first {k} words",), "number"),
    Primitive(
        "longer",
        STRS,
        STRS,
        "[w for w in {v} if len(w) > {k}]",
        ("keep the words longer than {k}",),
        "number",
    ),
    Primitive(
        "shorter",
        STRS,
        STRS,
        "[w for w in {v} if len(w) < {k}]",
        ("keep the words shorter than {k}",),
        "number",
    ),
    Primitive(
        "with", STRS, STRS, "[w for w in {v} if '{k}' in w]", ("keep the words that contain '{k}'",), "letter"
    ),
    Primitive(
        "without",
        STRS,
        STRS,
        "[w for w in {v} if '{k}' not in w]",
        ("remove the words that contain '{k}'",),
        "letter",
    ),
    Primitive(
        "each-upper",
        STRS,
        STRS,
        "[w.upper() for w in {v}]",
        ("convert each word to upper case",),
        group="case",
    ),
    Primitive(
        "each-lower",
        STRS,
        STRS,
        "[w.lower() for w in {v}]",
        ("convert each word to lower case",),
        group="case",
    ),
    Primitive(
        "each-backwards", STRS, STRS, "[w[::-1] for w in {v}]", ("reverse each word",), group="each-order"
    ),
    Primitive(
        "each-head", STRS, STRS, "[w[:{k}] for w in {v}]", ("cut each word to {k} characters",), "number"
    ),
    Primitive("lengths", STRS, INTS, "[len(w) for w in {v}]", ("take the length of each word",)),
    Primitive("join", STRS, STR, "'{k}'.join({v})", ("join the words with '{k}'",), "letter"),
    Primitive(
        "longest",
        STRS,
        STR,
        "max({v}, key=len, default='')",
        ("take the longest word, or '' if there is none",),
    ),
    Primitive("word-count", STRS, INT, "len({v})", ("count the words",)),
)

PRIMITIVES: dict[str, Primitive] = {
    primitive.key: primitive
    for primitive in (*_from_operations(), *_from_conditions(), *_conditional(), *_LISTS, *_STRINGS, *_WORDS)
}
"""All primitives by key, in a fixed order."""
