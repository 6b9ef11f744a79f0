"""Values as text: exact base-class conversion inside, a parser that trusts nothing outside."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, namedtuple
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from typing import Any

import pytest

from codellm_dag.sandbox.decode import InvalidValueError, from_literal, parse, to_literal, to_python
from codellm_dag.sandbox.inside.values import MAX_DEPTH, UnsupportedValueError, encode

PLAIN: list[tuple[Any, str]] = [
    (None, '{"t":"none"}'),
    (True, '{"t":"bool","v":true}'),
    (-5, '{"t":"int","v":"-5"}'),
    (2**60, '{"t":"int","v":"0x1000000000000000"}'),
    (-(2**64), '{"t":"int","v":"-0x10000000000000000"}'),
    (0.5, '{"t":"float","v":"0x1.0000000000000p-1"}'),
    (-math.inf, '{"t":"float","v":"-inf"}'),
    (1 - 2j, '{"t":"complex","v":["0x1.0000000000000p+0","-0x1.0000000000000p+1"]}'),
    (Fraction(-1, 3), '{"t":"fraction","v":["-1","3"]}'),
    (Decimal("1.50"), '{"t":"decimal","v":"1.50"}'),
    ("é\ud800", '{"t":"str","v":"\\u00e9\\ud800"}'),
    (b"\x00\xff", '{"t":"bytes","v":"AP8="}'),
    (bytearray(b"a"), '{"t":"bytearray","v":"YQ=="}'),
    ([1, (2,)], '{"t":"list","v":[{"t":"int","v":"1"},{"t":"tuple","v":[{"t":"int","v":"2"}]}]}'),
    ({"b", "a"}, '{"t":"set","v":[{"t":"str","v":"a"},{"t":"str","v":"b"}]}'),
    (frozenset(), '{"t":"frozenset","v":[]}'),
    ({"k": None}, '{"t":"dict","v":[[{"t":"str","v":"k"},{"t":"none"}]]}'),
]


@pytest.mark.parametrize(("value", "text"), PLAIN, ids=[text for _, text in PLAIN])
def test_plain_values_there_and_back(value: Any, text: str) -> None:
    assert encode(value) == text
    back = to_python(parse(text))
    assert back == value
    assert type(back) is type(value)


class LyingInt(int):
    """An int that says it is everything."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "42"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "42"

    def bit_length(self) -> int:
        return 0


class LyingList(list[int]):
    """A list that shows other items than it has."""

    def __iter__(self) -> Any:
        return iter([42])

    def __len__(self) -> int:
        return 1

    def __getitem__(self, key: Any) -> Any:
        return 42


class LyingDict(dict[str, int]):
    """A dict that shows other items than it has."""

    def items(self) -> Any:
        return [("x", 42)]

    def __iter__(self) -> Any:
        return iter(["x"])


class LyingStr(str):
    """A str that shows other letters than it has."""

    def __str__(self) -> str:
        return "42"

    def __getitem__(self, key: Any) -> str:
        return "42"


class Colour(Enum):
    RED = 1


Size = IntEnum("Size", "S M")
Pair = namedtuple("Pair", "x y")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (LyingInt(7), 7),
        (LyingInt(2**70), 2**70),
        (LyingList([1, 2]), [1, 2]),
        (LyingDict({"a": 1}), {"a": 1}),
        (LyingStr("truth"), "truth"),
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(a=1), {"a": 1}),
        (Pair(1, 2), (1, 2)),
        (Size.M, 2),
        ({"a": 1}.keys(), {"a"}),
    ],
)
def test_subclasses_are_what_their_base_class_says(value: Any, plain: Any) -> None:
    assert encode(value) == encode(plain)


@pytest.mark.parametrize(
    "value",
    [object(), Colour.RED, range(3), iter([]), (x for x in []),
    len, int, NotImplemented, [object()], {1: object()},
     memoryview(b""), {1: 2}.values()],
)  # fmt: skip
def test_other_values_are_unsupported(value: Any) -> None:
    with pytest.raises(UnsupportedValueError, match="is not plain data"):
        encode(value)


def test_depth_and_size_are_limited() -> None:
    deep: Any = []
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert to_python(parse(encode(deep))) == deep
    with pytest.raises(UnsupportedValueError, match="nested deeper than 64"):
        encode([[deep]])
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(UnsupportedValueError, match="nested deeper"):
        encode(loop)
    with pytest.raises(UnsupportedValueError, match="more than 200000 values"):
        encode([0] * 300_000)


@pytest.mark.parametrize(
    "text",
    [
        "", "1", "null", "[]", "{}", '{"t":"object"}', '{"t":["list"]}', '{"t":"int"}', '{"t":"int","v":5}',
        '{"t":"int","v":"5.0"}', '{"t":"int","v":" 5"}', '{"t":"int","v":"1_0"}', '{"t":"int","v":"٣"}',
        '{"t":"int","v":"' + "9" * 5000 + '"}', '{"t":"int","v":"0xZZ"}', '{"t":"bool","v":1}',
        '{"t":"none","v":1}',
        '{"t":"float","v":"one"}', '{"t":"float","v":"0x1p99999"}', '{"t":"float","v":0.5}',
        '{"t":"complex","v":["0x1p0"]}', '{"t":"complex","v":"xy"}', '{"t":"fraction","v":["1","0"]}',
        '{"t":"fraction","v":["1","-2"]}', '{"t":"decimal","v":"many"}', '{"t":"decimal","v":1}',
        '{"t":"str","v":["a"]}', '{"t":"bytes","v":"!"}', '{"t":"bytes","v":"A"}', '{"t":"list","v":{}}',
        '{"t":"list","v":[1]}', '{"t":"dict","v":[[{"t":"none"}]]}', '{"t":"dict","v":["ab"]}',
        '{"t":"list","v":[],"extra":1}', "[" * 100_000, '{"t":"list","v":[' * 1000,
        '{"t":"list","v":[' * 70 + "]}" * 70,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError):
        parse(text)


def test_unhashable_members_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="unhashable"):
        to_python(parse('{"t":"set","v":[{"t":"list","v":[]}]}'))


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("set()", set()), ("frozenset({1})", frozenset({1})), ("-inf", -math.inf),
        ("[float('inf')]", [math.inf]),
        ("{'a': (1,)}", {"a": (1,)}), ("b'x'", b"x"), ("1+2j", 1 + 2j), ("  'x'  ", "x"),
        ("bytearray(b'x')", bytearray(b"x")),
    ],
)  # fmt: skip
def test_literals(source: str, value: Any) -> None:
    assert from_literal(source) == value


def test_nan_literal() -> None:
    assert math.isnan(from_literal("nan"))
    assert math.isnan(from_literal('float("nan")'))


@pytest.mark.parametrize(
    "source", ["", "x", "f()", "[x]", "open('a')", "float('x')", "{**{}}", "1 if 1 else 2", "(", "a.b"]
)
def test_other_source_is_not_a_literal(source: str) -> None:
    with pytest.raises(InvalidValueError, match="is not the literal of a plain value"):
        from_literal(source)


def test_literal_of_a_text() -> None:
    assert to_literal(encode([{1}, {"a": b"x"}, (None,)])) == "[{1}, {'a': b'x'}, (None,)]"
