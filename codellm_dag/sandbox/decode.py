"""Reads canonical text from the sandbox into checked nodes, outside; never evaluates or unpickles it.

The text comes from untrusted code: its size, depth, number of parts, tags and scalar forms are all checked,
and nothing in it is hashed or compared by a method that it could bring along, as it can bring none.
"""

from __future__ import annotations

import ast
import base64
import binascii
import json
import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from codellm_dag.sandbox.inside.values import MAX_DEPTH, MAX_NODES, Node, encode

_INT = re.compile(r"-?(\d{1,19}|0x[0-9a-f]+)", re.ASCII)
_MOST_DIGITS = 10_000
_KNOWN_FLOATS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_EMPTY = {"set": set, "frozenset": frozenset, "bytearray": bytearray, "float": float, "complex": complex}


class InvalidValueError(ValueError):
    """The text is not the canonical text of a plain value."""


def parse(text: str) -> Node:
    """The checked tree of nodes of canonical text. Raises InvalidValueError for anything else."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"not canonical text: {error}") from error
    _Checker().check(tree, 0)
    return tree


def to_python(node: Node) -> Any:
    """The plain value of a checked node. Raises InvalidValueError for e.g. a list in a set."""
    tag, value = node["t"], node.get("v", [])
    if tag in _READERS:
        return _READERS[tag](value)
    try:
        if tag == "dict":
            return {to_python(key): to_python(item) for key, item in value}
        return _CONTAINERS[tag](to_python(item) for item in value)
    except TypeError as error:
        raise InvalidValueError(str(error)) from error


def to_literal(text: str) -> str:
    """Canonical text as Python source, as `Test.expected` and `Call.args` want it."""
    return repr(to_python(parse(text)))


def from_literal(source: str) -> Any:
    """The value of a Python literal; ``set()``, ``frozenset(…)``, ``nan``, ``inf``, ``float("nan")`` too.

    Raises InvalidValueError if it is anything else; nothing is executed.
    """
    try:
        return _literal(ast.parse(source.strip(), mode="eval").body)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise InvalidValueError(f"{source[:80]!r} is not the literal of a plain value: {error}") from error


def node_of_literal(source: str) -> Node:
    """The checked node of a Python literal. Raises InvalidValueError."""
    return parse(encode(from_literal(source)))


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _KNOWN_FLOATS:
        return _KNOWN_FLOATS[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand)
        if isinstance(value, (int, float, complex)):
            return -value
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        items = [_literal(item) for item in node.elts]
        return {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)](items)
    if isinstance(node, ast.Dict):
        keys = [key for key in node.keys if key is not None]
        if len(keys) < len(node.keys):
            raise ValueError("** is not allowed in a literal")
        return {_literal(key): _literal(item) for key, item in zip(keys, node.values, strict=True)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _EMPTY:
        if node.keywords or len(node.args) > 1:
            raise ValueError(f"{node.func.id} takes at most one literal")
        return _EMPTY[node.func.id](*(_literal(argument) for argument in node.args))
    return ast.literal_eval(node)


class _Checker:
    def __init__(self) -> None:
        self.nodes = 0

    def check(self, node: Any, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise InvalidValueError("too large or nested too deep")
        if not isinstance(node, dict) or not isinstance(node.get("t"), str) or not node.keys() <= {"t", "v"}:
            raise InvalidValueError("not a tagged value")
        tag, value = node["t"], node.get("v")
        if tag == "dict":
            for pair in _list(value):
                if len(_list(pair)) != 2:
                    raise InvalidValueError("a dict must be a list of pairs")
                self.check(pair[0], depth + 1)
                self.check(pair[1], depth + 1)
        elif tag in _CONTAINERS:
            for item in _list(value):
                self.check(item, depth + 1)
        elif tag in _READERS:
            _READERS[tag](value)
        else:
            raise InvalidValueError(f"unknown tag {tag[:20]!r}")


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidValueError("a container must be a list")
    return value


def _none(value: Any) -> None:
    if value:
        raise InvalidValueError("none has no value")


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidValueError("a bool must be true or false")
    return value


def _fraction(value: Any) -> Fraction:
    if len(_list(value)) != 2 or _int(value[1]) <= 0:
        raise InvalidValueError("a fraction must be two ints, the second positive")
    return Fraction(_int(value[0]), _int(value[1]))


def _decimal(value: Any) -> Decimal:
    if len(_str(value)) > _MOST_DIGITS:
        raise InvalidValueError(f"a decimal of more than {_MOST_DIGITS} letters")
    try:
        return Decimal(value)
    except ArithmeticError as error:
        raise InvalidValueError("not a decimal") from error


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidValueError("a str must be a string")
    return value


def _int(value: Any) -> int:
    text = _str(value)
    if not _INT.fullmatch(text):
        raise InvalidValueError(f"not an int: {text[:40]!r}")
    return int(text, 16 if "x" in text else 10)


def _float(value: Any) -> float:
    text = _str(value)
    try:
        return _KNOWN_FLOATS[text] if text in _KNOWN_FLOATS else float.fromhex(text)
    except (ValueError, OverflowError) as error:
        raise InvalidValueError(f"not a float: {text[:40]!r}") from error


def _complex(value: Any) -> complex:
    if len(_list(value)) != 2:
        raise InvalidValueError("a complex must be two floats")
    return complex(_float(value[0]), _float(value[1]))


def _bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_str(value), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValueError("bytes must be base64") from error


def _bytearray(value: Any) -> bytearray:
    return bytearray(_bytes(value))


_READERS = {
    "none": _none,
    "bool": _bool,
    "int": _int,
    "float": _float,
    "complex": _complex,
    "fraction": _fraction,
    "decimal": _decimal,
    "str": _str,
    "bytes": _bytes,
    "bytearray": _bytearray,
}
_CONTAINERS = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
