"""Turns assert-style tests into calls with expected values, so that the verdict can be formed outside.

`convert_asserts` reads the test with `ast` and executes nothing; it understands HumanEval's
``check(candidate)`` and MBPP's bare asserts, constant expressions, loops over constant data, and the common
shapes of assertions (`shapes.py`). What it cannot convert comes back as source. `recorded.py` converts most
of that by running it with the reference solution; the rest can only be judged inside the sandbox.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, replace
from typing import Any

from codellm_dag.sandbox.decode import InvalidValueError, to_literal
from codellm_dag.sandbox.inside.values import UnsupportedValueError, encode
from codellm_dag.sandbox.judge import VIEWS, Test
from codellm_dag.sandbox.literals import NotConstantError, bind, fold
from codellm_dag.sandbox.predicates import close_over, free_names, substitute
from codellm_dag.sandbox.programs import Call
from codellm_dag.sandbox.shapes import Shape, UnknownShapeError, mentions, recognise, repeats

MOST_TESTS = 10_000


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


_NO = (_CannotConvertError, UnknownShapeError, NotConstantError, UnsupportedValueError, InvalidValueError)


def convert_asserts(test_source: str, entry_point: str) -> Conversion:
    """Convert the assertions on `entry_point` in `test_source`.

    If it defines ``check(candidate)``, that function's body is converted and the leftover is source that
    defines a ``check`` with what remains and calls it with the entry point. Else the module's statements are.
    Raises SyntaxError if it is not Python.
    """
    module = ast.parse(test_source)
    check = find_check(module)
    converter = _Converter(check.args.args[0].arg if check else entry_point, entry_point)
    body = check.body if check else module.body
    body[:] = converter.block(body, {})
    return Conversion(tuple(converter.tests), leftover_source(module, entry_point), converter.dropped)


def find_check(module: ast.Module) -> ast.FunctionDef | None:
    """The function ``check(candidate)`` of a test, if it has one."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == "check" and node.args.args:
            return node
    return None


def leftover_source(module: ast.Module, entry_point: str) -> str:
    """Source of a test from which assertions have been taken out; "" if none remains.

    If it has a ``check`` function, a call of it with the entry point is added unless it is there.
    """
    return runnable_source(module, entry_point) if _has_assert(module) else ""


def runnable_source(module: ast.Module, entry_point: str) -> str:
    """Source of a test that runs its ``check`` function, if it has one."""
    source = ast.unparse(module)
    called = any(isinstance(node, ast.Expr) and mentions(node, "check") for node in module.body)
    return source if called or find_check(module) is None else f"{source}\n\ncheck({entry_point})\n"


def literal(value: Any) -> str:
    """A plain value as source text. Raises UnsupportedValueError."""
    return to_literal(encode(value))


def _has_assert(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Assert) for part in ast.walk(node))


class _Converter:
    """Walks statements in order with the constants known so far; collects tests."""

    def __init__(self, callee: str, entry_point: str) -> None:
        self.callee = callee
        self.entry_point = entry_point
        self.tests: list[Test] = []
        self.results: dict[str, ast.expr] = {}
        """Names that hold what a call of the callee gave."""
        self.dropped = 0

    def block(self, statements: list[ast.stmt], names: dict[str, Any]) -> list[ast.stmt]:
        """Convert what can be; return the statements that must stay. Updates `names`."""
        rest = []
        for statement in statements:
            tests, dropped = len(self.tests), self.dropped
            try:
                stays = self._statement(statement, names)
            except _NO:
                del self.tests[tests:]
                self.dropped = dropped
                _forget(statement, names)
                _forget(statement, self.results)
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
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as called) if mentions(
                called, self.callee
            ):
                self._keep_result(name, called, names)
                return True
            case ast.Assign(targets=[target]):
                _forget(statement, self.results)
                names |= bind(target, fold(statement.value, names))
                return True
            case ast.For(orelse=[]) if _has_assert(statement):
                self._loop(statement, names)
                return False
            case (
                ast.Pass()
                | ast.Expr(value=ast.Constant())
                | ast.Expr(value=ast.Call(func=ast.Name(id="print")))
            ):
                return False
        _forget(statement, names)
        _forget(statement, self.results)
        return True

    def _loop(self, loop: ast.For, names: dict[str, Any]) -> None:
        inner = dict(names)
        for item in list(fold(loop.iter, names)):
            inner |= bind(loop.target, item)
            if any(not isinstance(statement, ast.Assign) for statement in self.block(loop.body, inner)):
                raise _CannotConvertError
            if len(self.tests) > MOST_TESTS:
                raise _CannotConvertError
        names.clear()
        names |= inner

    def _keep_result(self, name: str, called: ast.Call, names: dict[str, Any]) -> None:
        """``y = candidate(constants…)``: from here on y stands for that call."""
        (shape,) = recognise(called, self.callee)
        if shape.comparison != "truthy":
            raise _CannotConvertError
        call = self._call(shape.call, names)
        source = f"{self.callee}({', '.join([*call.args, *(f'{k}={v}' for k, v in call.kwargs.items())])})"
        names.pop(name, None)
        self.results[name] = ast.parse(source, mode="eval").body

    def _assertion(self, test: ast.expr, names: dict[str, Any]) -> None:
        test = substitute(test, self.results)
        if mentions(test, self.callee):
            self.tests += [self._test(shape, names) for shape in recognise(test, self.callee)]
        elif fold(test, names):
            self.dropped += 1
        else:
            raise _CannotConvertError  # it fails for everyone; let the sandbox say so

    def _test(self, shape: Shape, names: dict[str, Any]) -> Test:
        call = self._call(shape.call, names)
        if repeats(shape, self.entry_point):
            return Test(call, "None", "any")
        if shape.comparison == "holds":
            free = free_names(shape.expected) & names.keys()
            known = {name: literal(names[name]) for name in free}
            return Test(call, close_over(shape.expected, known), "holds")
        tolerance = 0.0 if shape.tolerance is None else float(fold(shape.tolerance, names))
        return make_test(call, fold(shape.expected, names), shape, tolerance)

    def _call(self, node: ast.Call, names: dict[str, Any]) -> Call:
        arguments = fold(ast.Tuple(node.args, ast.Load()), names)
        keywords = {str(keyword.arg): literal(fold(keyword.value, names)) for keyword in node.keywords}
        return Call(self.entry_point, tuple(literal(argument) for argument in arguments), keywords)


def make_test(call: Call, expected: Any, shape: Shape, tolerance: float) -> Test:
    """The test of a shape whose parts have been evaluated. Raises UnsupportedValueError."""
    if shape.inclusive:
        tolerance = math.nextafter(tolerance, math.inf)
    call = replace(call, view=VIEWS.get(shape.comparison, ""))
    return Test(call, literal(expected), shape.comparison, tolerance)


def _forget(statement: ast.stmt, names: dict[str, Any]) -> None:
    """Names that an unconverted statement may have bound or changed are no longer known."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            names.pop(node.id, None)
        elif isinstance(node, ast.alias):
            names.pop(node.asname or node.name.split(".")[0], None)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.pop(node.name, None)
