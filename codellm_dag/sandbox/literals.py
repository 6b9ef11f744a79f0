"""Folds the constant expressions of tests into values, without executing any code.

It knows literals, names bound to folded values, operators, comparisons, comprehensions over folded values
and a few pure builtins; sizes are bounded. Anything else is `NotConstantError`.
"""

from __future__ import annotations

import ast
import math
import numbers
import operator
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

MAX_ITEMS = 100_000
"""Most items of a container and letters of a text that are made."""
_MAX_STEPS = 1_000_000
_MAX_BITS = 200_000
_MAX_DIGITS = 5_000


class NotConstantError(ValueError):
    """The expression depends on something that is not known without executing code."""


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
    ast.LShift: operator.lshift, ast.RShift: operator.rshift,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_, ast.Invert: operator.invert,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b, ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "all": all, "any": any, "bool": bool, "chr": chr, "complex": complex, "dict": dict,
    "divmod": divmod, "enumerate": lambda *a: list(enumerate(*a)), "float": float, "frozenset": frozenset,
    "int": int, "len": len, "list": list, "max": max, "min": min, "ord": ord, "range": range,
    "reversed": lambda a: list(reversed(a)), "set": set, "sorted": sorted, "str": str,
    "sum": sum, "tuple": tuple, "zip": lambda *a: list(zip(*a, strict=False)),
}  # fmt: skip
_FUNCTIONS |= {
    f"math.{name}": getattr(math, name)
    for name in [
        "ceil",
        "cos",
        "exp",
        "fabs",
        "floor",
        "fmod",
        "gcd",
        "hypot",
        "isclose",
        "isfinite",
        "isinf",
        "isnan",
        "log",
        "log10",
        "log2",
        "pow",
        "sin",
        "sqrt",
        "tan",
        "trunc",
    ]
}
_FUNCTIONS["isinstance"] = isinstance
_TYPES = {kind.__name__: kind for kind in (bool, int, float, complex, str, list, tuple, dict, set, frozenset)}
_CONSTANTS = {
    "math.pi": math.pi, "math.e": math.e, "math.inf": math.inf, "math.nan": math.nan,
    "inf": math.inf, "nan": math.nan,
}  # fmt: skip


def is_known(name: str) -> bool:
    """Whether a (dotted) name means something in every expression."""
    return name in _FUNCTIONS or name in _CONSTANTS


def is_supported(node: ast.expr) -> bool:
    """Whether an expression is of parts that can be folded once its names are known."""
    for part in ast.walk(node):
        if isinstance(part, ast.expr) and not hasattr(_Folder, f"_{type(part).__name__.lower()}"):
            return False
        if isinstance(part, ast.Call) and not is_known(ast.unparse(part.func)):
            return False
        if isinstance(part, ast.Compare) and not _compares_values(part):
            return False
        if isinstance(part, ast.Attribute) and not is_known(ast.unparse(part)):
            return False
    return True


def _compares_values(node: ast.Compare) -> bool:
    """Identity means something for values only where there is one object of a value."""
    return all(
        not isinstance(kind, (ast.Is, ast.IsNot))
        or (isinstance(other, ast.Constant) and other.value in (None, True, False))
        for kind, other in zip(node.ops, node.comparators, strict=True)
    )


def fold(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """The value of a constant expression. Raises NotConstantError."""
    try:
        return _Folder(dict(names)).value(node)
    except NotConstantError:
        raise
    except Exception as error:  # what the expression itself raises: a test that would fail for everyone
        raise NotConstantError(f"{type(error).__name__}: {error}") from error


class _Folder:
    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.steps = 0

    def value(self, node: ast.expr) -> Any:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise NotConstantError("too many steps")
        fold_node = getattr(self, f"_{type(node).__name__.lower()}", None)
        if fold_node is None:
            raise NotConstantError(f"{ast.unparse(node)[:80]} is not constant")
        return _bounded(fold_node(node))

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        for known in (self.names, _CONSTANTS, _TYPES):
            if node.id in known:
                return known[node.id]
        raise NotConstantError(f"{node.id} is not known")

    def _attribute(self, node: ast.Attribute) -> Any:
        dotted = ast.unparse(node)
        if dotted not in _CONSTANTS:
            raise NotConstantError(f"{dotted} is not known")
        return _CONSTANTS[dotted]

    def _starred(self, node: ast.Starred) -> Any:
        raise NotConstantError(f"{ast.unparse(node)} stands alone")

    def _list(self, node: ast.List) -> list[Any]:
        return list(self._items(node.elts))

    def _tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self._items(node.elts))

    def _set(self, node: ast.Set) -> set[Any]:
        return set(self._items(node.elts))

    def _items(self, nodes: list[ast.expr]) -> Iterator[Any]:
        for node in nodes:
            if isinstance(node, ast.Starred):
                yield from self.value(node.value)
            else:
                yield self.value(node)

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, item in zip(node.keys, node.values, strict=True):
            found.update(self.value(item) if key is None else {self.value(key): self.value(item)})
        return found

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        return _UNARY[type(node.op)](self.value(node.operand))

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Mult):
            for count, sized in ((left, right), (right, left)):
                if isinstance(count, int) and hasattr(sized, "__len__") and count * len(sized) > MAX_ITEMS:
                    raise NotConstantError("too large")
        if isinstance(node.op, ast.Mod) and not isinstance(left, numbers.Number):
            raise NotConstantError("% of texts can make them of any size")
        if isinstance(node.op, (ast.Pow, ast.LShift)):
            _check_growth(left, node.op, right)
        return _BINARY[type(node.op)](left, right)

    def _boolop(self, node: ast.BoolOp) -> Any:
        result = None
        for part in node.values:
            result = self.value(part)
            if bool(result) is isinstance(node.op, ast.Or):
                break
        return result

    def _compare(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for kind, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part)
            if not _COMPARE[type(kind)](left, right):
                return False
            left = right
        return True

    def _ifexp(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def _subscript(self, node: ast.Subscript) -> Any:
        return self.value(node.value)[self.value(node.slice)]

    def _slice(self, node: ast.Slice) -> slice:
        return slice(*(part and self.value(part) for part in (node.lower, node.upper, node.step)))

    def _call(self, node: ast.Call) -> Any:
        name = ast.unparse(node.func) if isinstance(node.func, (ast.Name, ast.Attribute)) else ""
        if name not in _FUNCTIONS or name.partition(".")[0] in self.names:
            raise NotConstantError(f"{ast.unparse(node)[:80]} is not constant")
        keywords = {keyword.arg: self.value(keyword.value) for keyword in node.keywords if keyword.arg}
        return _FUNCTIONS[name](*self._items(node.args), **keywords)

    def _listcomp(self, node: ast.ListComp) -> list[Any]:
        return [self._within(scope, node.elt) for scope in self._scopes(node.generators)]

    def _setcomp(self, node: ast.SetComp) -> set[Any]:
        return {self._within(scope, node.elt) for scope in self._scopes(node.generators)}

    def _generatorexp(self, node: ast.GeneratorExp) -> list[Any]:
        return [self._within(scope, node.elt) for scope in self._scopes(node.generators)]

    def _dictcomp(self, node: ast.DictComp) -> dict[Any, Any]:
        scopes = self._scopes(node.generators)
        return {self._within(scope, node.key): self._within(scope, node.value) for scope in scopes}

    def _within(self, scope: dict[str, Any], node: ast.expr) -> Any:
        inner = _Folder(scope)
        inner.steps = self.steps
        value = inner.value(node)
        self.steps = inner.steps
        return value

    def _scopes(self, generators: list[ast.comprehension]) -> Iterator[dict[str, Any]]:
        scopes: list[dict[str, Any]] = [dict(self.names)]
        for generator in generators:
            wider = []
            for scope in scopes:
                for item in self._within(scope, generator.iter):
                    inner = scope | bind(generator.target, item)
                    if all(self._within(inner, condition) for condition in generator.ifs):
                        wider.append(inner)
                    if len(wider) > MAX_ITEMS:
                        raise NotConstantError("too many items")
            scopes = wider
        yield from scopes


def bind(target: ast.expr, value: Any) -> dict[str, Any]:
    """The names that assigning `value` to `target` binds. Raises NotConstantError for other targets."""
    if isinstance(target, ast.Name):
        return {target.id: value}
    if isinstance(target, (ast.Tuple, ast.List)):
        values = list(value)
        if len(values) != len(target.elts):
            raise NotConstantError("cannot unpack")
        bound: dict[str, Any] = {}
        for part, item in zip(target.elts, values, strict=True):
            bound |= bind(part, item)
        return bound
    raise NotConstantError(f"cannot assign to {ast.unparse(target)}")


def _round(number: Any, digits: Any = None) -> Any:
    if digits is not None and abs(digits) > _MAX_DIGITS:
        raise NotConstantError("too many digits")
    return round(number, digits)


_FUNCTIONS["round"] = _round


def _check_growth(left: Any, op: ast.operator, right: Any) -> None:
    """Powers and shifts of exact numbers can be enormous."""
    if isinstance(left, (float, complex)) or isinstance(right, (float, complex)):
        return
    if not isinstance(left, int) or not isinstance(right, int):
        raise NotConstantError("powers only of int, float and complex numbers")
    grown = left.bit_length() + right if isinstance(op, ast.LShift) else left.bit_length() * abs(right)
    if grown > _MAX_BITS:
        raise NotConstantError("too large")


def _bounded(value: Any) -> Any:
    """`value`, if it is of a size that every operation can be done with in no time."""
    parts = (value.numerator, value.denominator) if isinstance(value, (int, Fraction)) else ()
    if any(part.bit_length() > _MAX_BITS for part in parts):
        raise NotConstantError("too large")
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) > _MAX_DIGITS:
        raise NotConstantError("too large")
    if isinstance(value, (list, tuple, set, frozenset, dict, str, bytes, range)) and len(value) > MAX_ITEMS:
        raise NotConstantError("too large")
    return value
