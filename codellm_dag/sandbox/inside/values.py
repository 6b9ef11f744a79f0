"""Plain Python values as canonical JSON text, by exact base-class conversion.

Every value is an object ``{"t": tag, "v": …}``: ``none``, ``bool`` (JSON bool), ``int`` (decimal text, or hex
text beyond 60 bits, as long decimals take quadratic time), ``float`` (``float.hex`` text, or nan, inf, -inf),
``complex`` (two such texts), ``fraction`` (two int texts), ``decimal``, ``str``, ``bytes`` and ``bytearray``
(base64), ``list``, ``tuple``, ``set`` and ``frozenset`` (elements sorted by their text; the keys of a dict
count as a set, as they do for ``==``), ``dict`` (list of [key, value] in insertion order).

A value of a subclass is converted by the methods of its base class only, so nothing that its class overrides
(``__eq__``, ``__iter__``, …) has a say. Anything else is `UnsupportedValueError`. Reading the text back is
not here: see ``codellm_dag/sandbox/decode.py``, which runs outside.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_DEPTH = 64
"""Deepest nesting of containers that is written or read."""
MAX_NODES = 200_000
"""Most values (containers and their elements) in one result."""

Node = dict[str, Any]


class UnsupportedValueError(ValueError):
    """The value, or something in it, is not plain data, or it is too deep or too large."""


def encode(value: Any) -> str:
    """`value` as canonical text.

    Raises UnsupportedValueError for values that are not plain data, nested deeper than MAX_DEPTH or with more
    than MAX_NODES parts.
    """
    return dump(_Encoder().node(value, 0))


def dump(node: Any) -> str:
    """A tree of nodes as canonical text: ASCII, no spaces, one form for one value."""
    return _dump(node)


def int_text(value: int) -> str:
    """Decimal up to 60 bits, hex beyond: both linear in the size."""
    return int.__repr__(value) if int.bit_length(value) <= 60 else int.__format__(value, "#x")


class _Encoder:
    """Writes one value; counts its parts so that a shared or endless structure stops early."""

    def __init__(self) -> None:
        self.nodes = 0

    def node(self, value: Any, depth: int) -> Node:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise UnsupportedValueError(f"more than {MAX_NODES} values in one result")
        if depth > MAX_DEPTH:
            raise UnsupportedValueError(f"nested deeper than {MAX_DEPTH}")
        kind = type(value)
        write = _WRITERS.get(kind)
        if write is None:
            base = next((base for base in _mro(kind) if base in _WRITERS), None)
            if base is None:
                raise UnsupportedValueError(f"a value of type {kind.__qualname__} is not plain data")
            write = _WRITERS[base]
        return write(self, value, depth + 1)


# Bound here, so that a program that patches `json` for itself still returns what it returns.
_dump = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode
_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_real = complex.__dict__["real"].__get__
_imag = complex.__dict__["imag"].__get__
_numerator = Fraction.__dict__["_numerator"].__get__
_denominator = Fraction.__dict__["_denominator"].__get__
_DictKeys = type({}.keys())


def _none(_encoder: _Encoder, _value: None, _depth: int) -> Node:
    return {"t": "none"}


def _bool(_encoder: _Encoder, value: bool, _depth: int) -> Node:
    return {"t": "bool", "v": value}


def _int(_encoder: _Encoder, value: int, _depth: int) -> Node:
    return {"t": "int", "v": int_text(value)}


def _float(_encoder: _Encoder, value: float, _depth: int) -> Node:
    return {"t": "float", "v": float.hex(value)}


def _complex(_encoder: _Encoder, value: complex, _depth: int) -> Node:
    return {"t": "complex", "v": [float.hex(_real(value)), float.hex(_imag(value))]}


def _fraction(_encoder: _Encoder, value: Fraction, _depth: int) -> Node:
    return {"t": "fraction", "v": [int_text(_numerator(value)), int_text(_denominator(value))]}


def _decimal(_encoder: _Encoder, value: Decimal, _depth: int) -> Node:
    return {"t": "decimal", "v": Decimal.__str__(value)}


def _str(_encoder: _Encoder, value: str, _depth: int) -> Node:
    return {"t": "str", "v": str.__getitem__(value, slice(None))}  # the slice is an exact str


def _bytes(_encoder: _Encoder, value: bytes, _depth: int) -> Node:
    return {"t": "bytes", "v": base64.b64encode(bytes.__getitem__(value, slice(None))).decode("ascii")}


def _bytearray(_encoder: _Encoder, value: bytearray, _depth: int) -> Node:
    text = base64.b64encode(bytearray.__getitem__(value, slice(None))).decode("ascii")
    return {"t": "bytearray", "v": text}


def _list(encoder: _Encoder, value: list[Any], depth: int) -> Node:
    return {"t": "list", "v": [encoder.node(item, depth) for item in list.__iter__(value)]}


def _tuple(encoder: _Encoder, value: tuple[Any, ...], depth: int) -> Node:
    return {"t": "tuple", "v": [encoder.node(item, depth) for item in tuple.__iter__(value)]}


def _set(encoder: _Encoder, value: set[Any], depth: int) -> Node:
    return {"t": "set", "v": sorted((encoder.node(item, depth) for item in set.__iter__(value)), key=dump)}


def _frozenset(encoder: _Encoder, value: frozenset[Any], depth: int) -> Node:
    items = (encoder.node(item, depth) for item in frozenset.__iter__(value))
    return {"t": "frozenset", "v": sorted(items, key=dump)}


def _keys(encoder: _Encoder, value: Any, depth: int) -> Node:
    return _set(encoder, set(value), depth)


def _dict(encoder: _Encoder, value: dict[Any, Any], depth: int) -> Node:
    pairs = [[encoder.node(key, depth), encoder.node(item, depth)] for key, item in dict.items(value)]
    return {"t": "dict", "v": pairs}


_WRITERS: dict[type, Callable[[_Encoder, Any, int], Node]] = {
    type(None): _none,
    bool: _bool,
    int: _int,
    float: _float,
    complex: _complex,
    Fraction: _fraction,
    Decimal: _decimal,
    str: _str,
    bytes: _bytes,
    bytearray: _bytearray,
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _frozenset,
    dict: _dict,
    _DictKeys: _keys,
}
