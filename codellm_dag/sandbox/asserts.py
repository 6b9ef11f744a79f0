"""Turns assert-style tests into calls with expected values, so that the verdict can be formed outside.

`convert_asserts` reads the test with `ast` and executes nothing; it understands HumanEval's
``check(candidate)`` and MBPP's bare asserts, constant expressions, loops over constant data, and the common
shapes of assertions. What it cannot convert comes back as source, to be judged inside the sandbox.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import Any

from codellm_dag.sandbox.decode import InvalidValueError, to_literal
from codellm_dag.sandbox.inside.values import UnsupportedValueError, encode
from codellm_dag.sandbox.judge import Comparison, Test
from codellm_dag.sandbox.literals import NotConstantError, bind, fold
from codellm_dag.sandbox.programs import Call

_VIEWS: dict[str, Comparison] = {
    "tuple": "equal_as_tuple",
    "list": "equal_as_list",
    "set": "equal_as_set",
    "frozenset": "equal_as_set",
    "sorted": "equal_sorted",
}
_MOST_TESTS = 10_000


@dataclass(frozen=True)
class Conversion:
    """Tests for the judge outside, and the source of what could not be converted ("" if nothing is left).

    `dropped` counts assertions that test nothing (``assert True``).
    """

    tests: tuple[Test, ...]
    leftover: str
    dropped: int = 0

    @property
    def complete(self) -> bool:
        """True if every assertion was converted or dropped and at least one was converted."""
        return bool(self.tests) and not self.leftover


class _CannotConvertError(ValueError):
    pass


def convert_asserts(test_source: str, entry_point: str) -> Conversion:
    """Convert the assertions on `entry_point` in `test_source`.

    If it defines ``check(candidate)``, that function's body is converted and the leftover is source that
    defines a ``check`` with what remains and calls it with the entry point. Else the module's statements are.
    Raises SyntaxError if it is not Python.
    """
    module = ast.parse(test_source)
    check = next((n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == "check"), None)
    if check is None or not check.args.args:
        converter = _Converter(entry_point, entry_point)
        rest = converter.block(module.body, {})
        leftover = ast.unparse(ast.Module(rest, [])) if _has_assert(rest) else ""
        return Conversion(tuple(converter.tests), leftover, converter.dropped)
    converter = _Converter(check.args.args[0].arg, entry_point)
    rest = converter.block(check.body, {})
    if not _has_assert(rest):
        return Conversion(tuple(converter.tests), "", converter.dropped)
    check.body = rest
    leftover = f"{ast.unparse(module)}\n\ncheck({entry_point})\n"
    return Conversion(tuple(converter.tests), leftover, converter.dropped)


def literal(value: Any) -> str:
    """A plain value as source text. Raises UnsupportedValueError."""
    return to_literal(encode(value))


def _has_assert(statements: list[ast.stmt]) -> bool:
    return any(isinstance(node, ast.Assert) for statement in statements for node in ast.walk(statement))


class _Converter:
    """Walks statements in order with the constants known so far; collects tests."""

    def __init__(self, callee: str, entry_point: str) -> None:
        self.callee = callee
        self.entry_point = entry_point
        self.tests: list[Test] = []
        self.dropped = 0

    def block(self, statements: list[ast.stmt], names: dict[str, Any]) -> list[ast.stmt]:
        """Convert what can be; return the statements that must stay. Updates `names`."""
        rest = []
        for statement in statements:
            tests, dropped = len(self.tests), self.dropped
            try:
                stays = self._statement(statement, names)
            except (_CannotConvertError, NotConstantError, UnsupportedValueError, InvalidValueError):
                del self.tests[tests:]
                self.dropped = dropped
                self._forget(statement, names)
                stays = True
            if stays:
                rest.append(statement)
        return rest

    def _statement(self, statement: ast.stmt, names: dict[str, Any]) -> bool:
        """Convert one statement; True if what remains may need it."""
        match statement:
            case ast.Assert():
                self._assertion(statement.test, names)
                return False
            case ast.Assign(targets=[target]):
                names |= bind(target, fold(statement.value, names))
                return True
            case ast.For(orelse=[]) if _has_assert(statement.body):
                self._loop(statement, names)
                return False
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                return False
            case ast.Import() | ast.ImportFrom():
                self._forget(statement, names)
                return True
            case ast.Expr(value=ast.Call(func=ast.Name(id="print"))):
                return False
        raise _CannotConvertError

    def _loop(self, loop: ast.For, names: dict[str, Any]) -> None:
        items = list(fold(loop.iter, names))
        inner = dict(names)
        for item in items:
            inner |= bind(loop.target, item)
            if any(not isinstance(s, ast.Assign) for s in self.block(loop.body, inner)):
                raise _CannotConvertError
            if len(self.tests) > _MOST_TESTS:
                raise _CannotConvertError
        names.clear()
        names |= inner

    def _forget(self, statement: ast.stmt, names: dict[str, Any]) -> None:
        """Names that an unconverted statement may have bound or changed are no longer known."""
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                names.pop(node.id, None)
            if isinstance(node, ast.alias):
                names.pop(node.asname or node.name.split(".")[0], None)

    def _assertion(self, test: ast.expr, names: dict[str, Any]) -> None:
        if not self._mentions_callee(test):
            if not fold(test, names):
                raise _CannotConvertError  # it fails for everyone; let the sandbox say so
            self.dropped += 1
            return
        match test:
            case ast.BoolOp(op=ast.And()):
                for part in test.values:
                    self._assertion(part, names)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                self._comparison(left, op, right, names)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self._add(self._call(operand, names), "False", "falsy")
            case ast.Call(func=ast.Attribute(value=ast.Name(id="math"), attr="isclose")):
                self._isclose(test, names)
            case _:
                self._add(self._call(test, names), "True", "truthy")

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, names: dict[str, Any]) -> None:
        if isinstance(op, (ast.Lt, ast.LtE)):
            self._distance(left, op, right, names)
            return
        if self._mentions_callee(right):
            left, right = right, left
        match op:
            case ast.Eq():
                call, comparison = self._viewed_call(left, right, names)
                self._add(call, literal(fold(right, names)), comparison)
            case ast.NotEq():
                self._add(self._call(left, names), literal(fold(right, names)), "not_equal")
            case ast.Is():
                value = fold(right, names)
                if value is not None and not isinstance(value, bool):
                    raise _CannotConvertError
                self._add(self._call(left, names), repr(value), "identical")
            case _:
                raise _CannotConvertError

    def _viewed_call(self, node: ast.expr, other: ast.expr, names: dict[str, Any]) -> tuple[Call, Comparison]:
        """``candidate(…)`` or ``set(candidate(…))`` held against a value of the same kind."""
        match node:
            case ast.Call(func=ast.Name(id=view), args=[inner], keywords=[]) if view in _VIEWS:
                kind = type(fold(other, names)).__name__
                if kind != ("list" if view == "sorted" else view):
                    raise _CannotConvertError
                return self._call(inner, names), _VIEWS[view]
        return self._call(node, names), "equal"

    def _distance(self, left: ast.expr, op: ast.cmpop, right: ast.expr, names: dict[str, Any]) -> None:
        """``abs(candidate(…) - value) < tolerance``."""
        match left:
            case ast.Call(func=function, args=[ast.BinOp(op=ast.Sub(), left=one, right=two)], keywords=[]):
                if ast.unparse(function) not in ("abs", "math.fabs", "fabs"):
                    raise _CannotConvertError
            case _:
                raise _CannotConvertError
        if self._mentions_callee(two):
            one, two = two, one
        tolerance = float(fold(right, names))
        if isinstance(op, ast.LtE):
            tolerance = math.nextafter(tolerance, math.inf)
        self._add(self._call(one, names), literal(fold(two, names)), "within", tolerance)

    def _isclose(self, node: ast.Call, names: dict[str, Any]) -> None:
        given = {keyword.arg: float(fold(keyword.value, names)) for keyword in node.keywords}
        if len(node.args) != 2 or not given.keys() <= {"rel_tol", "abs_tol"} or given.get("abs_tol", 0.0) > 0:
            raise _CannotConvertError
        one, two = node.args
        if self._mentions_callee(two):
            one, two = two, one
        self._add(self._call(one, names), literal(fold(two, names)), "relative", given.get("rel_tol", 1e-9))

    def _add(self, call: Call, expected: str, comparison: Comparison, tolerance: float = 0.0) -> None:
        self.tests.append(Test(call, expected, comparison, tolerance))

    def _call(self, node: ast.expr, names: dict[str, Any]) -> Call:
        """``candidate(constants…)`` as a call."""
        if not isinstance(node, ast.Call) or not self._is_callee(node.func):
            raise _CannotConvertError
        if any(keyword.arg is None for keyword in node.keywords):
            raise _CannotConvertError
        arguments = fold(ast.Tuple(list(node.args), ast.Load()), names)
        keywords = {str(keyword.arg): literal(fold(keyword.value, names)) for keyword in node.keywords}
        return Call(self.entry_point, tuple(literal(argument) for argument in arguments), keywords)

    def _is_callee(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id == self.callee

    def _mentions_callee(self, node: ast.expr) -> bool:
        return any(self._is_callee(part) for part in ast.walk(node) if isinstance(part, ast.expr))
