"""Every primitive: its expression is Python of the right type, its words name its parameter."""

from __future__ import annotations

import pytest

from codellm_dag.problems.microbench.pipelines import body, render, template_name
from codellm_dag.problems.microbench.primitives import BOOL, INT, INTS, PRIMITIVES, STR, STRS

VALUES = {INT: -7, STR: " Noon is Up ", INTS: [3, -2, 8, 8], STRS: ["Up", "noon", "a"]}
TYPES = {INT: int, STR: str, BOOL: bool, INTS: list, STRS: list}
PARAMETERS = {"": "", "number": "3", "letter": "n", "word": "ok"}


def value_of(key: str, value: object) -> object:
    primitive = PRIMITIVES[key]
    source = body((key,), (PARAMETERS[primitive.parameter],), "v", primitive.source)
    namespace: dict[str, object] = {}
    exec(f"def f(v):\n{source}", namespace)
    return namespace["f"](value)  # type: ignore[operator]


@pytest.mark.parametrize("key", PRIMITIVES)
def test_expression_and_words(key: str) -> None:
    primitive = PRIMITIVES[key]
    result = value_of(key, VALUES[primitive.source])
    assert type(result) is TYPES[primitive.target]
    if primitive.target in (INTS, STRS):
        assert all(type(item) is (int if primitive.target == INTS else str) for item in result)  # type: ignore[attr-defined]
    for text in (primitive.code, *primitive.wordings):
        assert ("{k}" in text) == bool(primitive.parameter)
        assert "{x}" not in text
    assert len(set(primitive.wordings)) == len(primitive.wordings) > 0


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("if-odd-halve", 7, 3),
        ("if-odd-halve", 8, 8),
        ("remainder", -7, 2),
        ("keep-divisible", [3, 4, 6], [3, 6]),
        ("drop-negative", [-1, 0, 2], [0, 2]),
        ("count-other", [3, 4, 3], 1),
        ("all-positive", [], True),
        ("any-positive", [], False),
        ("unique", [3, 1, 3], [1, 3]),
        ("largest", [], 0),
        ("digits", -120, [1, 2, 0]),
        ("replace", "a b c", "anbnc"),
        ("longest", [], ""),
        ("by-length", ["bbb", "a", "cc"], ["a", "cc", "bbb"]),
        ("tail", "abcde", "cde"),
        ("each-head", ["abcd", "x"], ["abc", "x"]),
    ],
)
def test_values_by_hand(key: str, value: object, expected: object) -> None:
    assert value_of(key, value) == expected


def test_words_of_different_primitives_differ() -> None:
    """Else one docstring would ask for two things."""
    seen: dict[tuple[str, str], str] = {}
    for primitive in PRIMITIVES.values():
        for wording in primitive.wordings:
            other = seen.setdefault((primitive.source, wording), primitive.key)
            assert other == primitive.key, wording


def test_rendering_by_hand() -> None:
    import random

    template = ("keep-even", "each-square", "sum")
    rendered = render(template, random.Random(0))
    name = rendered.arguments[0][0]
    assert rendered.reference == (
        f"    {name} = [x for x in {name} if x % 2 == 0]\n"
        f"    {name} = [x * x for x in {name}]\n"
        f"    return sum({name})\n"
    )
    assert rendered.prompt.startswith(f'def {rendered.entry_point}({name}: list[int]) -> int:\n    """')
    assert template_name(template) == "keep-even > each-square > sum"


def test_a_change_of_type_gets_a_name_of_its_own() -> None:
    assert body(("words", "lengths", "sum"), ("", "", ""), "text", STR) == (
        "    pieces = text.split()\n    list_ = [len(w) for w in pieces]\n    return sum(list_)\n"
    )
