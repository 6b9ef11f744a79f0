"""Converts tests that must be run to be known: random inputs, helpers of the prompt, the reference's answers.

The test is run once in the sandbox with the *reference* solution; each assertion of a known shape notes its
arguments and its expected value instead of being checked. No candidate is anywhere near that process, and the
candidates' processes never see the values. Random inputs are drawn with the sandbox's fixed seed, so the same
Python gives the same tests.
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

from codellm_dag.sandbox.asserts import (
    MOST_TESTS,
    Conversion,
    find_check,
    leftover_source,
    literal,
    make_test,
    runnable_source,
)
from codellm_dag.sandbox.decode import parse, to_python
from codellm_dag.sandbox.inside.values import UnsupportedValueError
from codellm_dag.sandbox.judge import Test, calls_for, judge_each
from codellm_dag.sandbox.literals import NotConstantError, is_supported
from codellm_dag.sandbox.pool import Sandbox
from codellm_dag.sandbox.predicates import OUTPUT, close_over, free_names, inline, substitute
from codellm_dag.sandbox.programs import Call, Limits, Program
from codellm_dag.sandbox.shapes import Shape, UnknownShapeError, mentions, recognise

_NOTES = "__notes__"
_PRELUDE = f"import copy as __copy__\n{_NOTES} = []\n"
_NOTED = f"\ndef __noted__():\n    return {_NOTES}\n"


def record_asserts(sandbox: Sandbox, test_source: str, entry_point: str, reference: str) -> Conversion:
    """Convert what `convert_asserts` left over, by a run of `reference`, which defines `entry_point`.

    `leftover` of the result is what still could not be converted; all of `test_source` if the run failed or
    if the reference itself does not meet the tests that came out.
    """
    failed = Conversion((), test_source)
    try:
        recorder = _Recorder(test_source, entry_point, ast.parse(reference))
    except SyntaxError:
        return failed
    instrumented = runnable_source(recorder.visit(ast.parse(test_source)), entry_point)
    source = f"{reference}\n{_PRELUDE}{instrumented}{_NOTED}"
    limits = Limits(cpu_seconds=30.0, wall_seconds=120.0, output_bytes=16 << 20)
    execution = sandbox.run_one(Program(source, (Call("__noted__"),), limits=limits))
    if execution.status != "finished" or not execution.outputs or execution.outputs[0].value is None:
        return failed
    try:
        tests = _tests(to_python(parse(execution.outputs[0].value)), recorder.shapes, entry_point)
    except (UnsupportedValueError, NotConstantError):
        return failed
    run = sandbox.run_one(Program(reference, calls_for(tests, entry_point), limits=limits))
    if not tests or judge_each(run, tests).verdict != "pass":
        return failed
    remaining = _Remover(recorder.converted).visit(ast.parse(test_source))
    return Conversion(tests, leftover_source(remaining, entry_point))


def _tests(notes: list[Any], shapes: list[Shape], entry_point: str) -> tuple[Test, ...]:
    if len(notes) > MOST_TESTS:
        raise UnsupportedValueError(f"more than {MOST_TESTS} tests")
    tests = []
    for number, arguments, keywords, expected, tolerance in notes:
        named = {name: literal(value) for name, value in keywords.items()}
        call = Call(entry_point, tuple(literal(argument) for argument in arguments), named)
        shape = shapes[number]
        if shape.comparison == "holds":  # then `expected` holds the values of the predicate's own names
            known = {name: literal(value) for name, value in expected.items()}
            tests.append(Test(call, close_over(shape.expected, known), "holds"))
        else:
            tests.append(make_test(call, expected, shape, float(tolerance)))
    return tuple(tests)


class _Recorder(ast.NodeTransformer):
    """Replaces each assertion of a known shape by a note of its parts."""

    def __init__(self, test_source: str, entry_point: str, reference: ast.Module) -> None:
        check = find_check(ast.parse(test_source))
        self.callee = check.args.args[0].arg if check else entry_point
        self.entry_point = entry_point
        self.reference = reference
        self.results: dict[str, ast.expr] = {}
        """Names that hold the result of a call, and that call with its arguments as they were then."""
        self.shapes: list[Shape] = []
        self.converted: set[tuple[int, int]] = set()

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | list[ast.stmt]:
        """``y = candidate(…)``: the arguments are noted before the call, which may change them."""
        for target in node.targets:
            self.forget(target)
        value = node.value
        if not isinstance(value, ast.Call) or value.keywords or not isinstance(node.targets[0], ast.Name):
            return node
        if len(node.targets) > 1 or ast.unparse(value.func) != self.callee:
            return node
        kept = f"__arguments_{len(self.shapes)}_{node.targets[0].id}__"
        self.results[node.targets[0].id] = ast.parse(f"{self.callee}(*{kept})", mode="eval").body
        return [_call_of(f"{kept} = __copy__.deepcopy", ast.List(value.args, ast.Load())), node]

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        """``y.sort()`` and the like may change a kept result."""
        self.forget(node)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        """``y += …`` does."""
        self.forget(node)
        return node

    def forget(self, node: ast.AST) -> None:
        """Names in `node` no longer stand for the result of a call."""
        for part in ast.walk(node):
            if isinstance(part, ast.Name):
                self.results.pop(part.id, None)

    def visit_Assert(self, node: ast.Assert) -> ast.stmt | list[ast.stmt]:
        test = substitute(node.test, self.results)
        if not mentions(test, self.callee):
            return node
        try:
            shapes = [self._with_helpers(shape) for shape in recognise(test, self.callee)]
        except UnknownShapeError:
            return node
        self.converted.add((node.lineno, node.col_offset))
        return [self._note(shape) for shape in shapes]

    def _with_helpers(self, shape: Shape) -> Shape:
        """The shape with helpers in place of their calls. Raises UnknownShapeError if code must tell."""
        # Under its own name the function is the candidate again, not something the reference could know.
        if mentions(shape.expected, self.callee) or mentions(shape.expected, self.entry_point):
            raise UnknownShapeError(self.entry_point)
        if shape.comparison != "holds":
            return shape
        predicate = inline(shape.expected, self.reference)
        if not is_supported(predicate):
            raise UnknownShapeError(ast.unparse(predicate))
        return replace(shape, expected=predicate)

    def _note(self, shape: Shape) -> ast.stmt:
        expected = shape.expected
        if shape.comparison == "holds":
            names = sorted(free_names(shape.expected) - {OUTPUT})
            expected = ast.Dict(
                [ast.Constant(name) for name in names], [ast.Name(n, ast.Load()) for n in names]
            )
        self.shapes.append(shape)
        keywords = shape.call.keywords
        parts = [
            ast.Constant(len(self.shapes) - 1),
            ast.List(shape.call.args, ast.Load()),
            ast.Dict([ast.Constant(k.arg) for k in keywords], [k.value for k in keywords]),
            expected,
            shape.tolerance or ast.Constant(0.0),
        ]
        # The test may have its own `copy` or `str`; these names are ours alone.
        copied = _call_of("__copy__.deepcopy", ast.Tuple(parts, ast.Load())).value
        return _call_of(f"{_NOTES}.append", copied)


def _call_of(function: str, argument: ast.expr) -> Any:
    """The statement ``function(argument)``."""
    statement: Any = ast.parse(f"{function}(0)").body[0]
    statement.value.args = [argument]
    return statement


class _Remover(ast.NodeTransformer):
    """Takes the converted assertions out of a test."""

    def __init__(self, converted: set[tuple[int, int]]) -> None:
        self.converted = converted

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        return (
            ast.copy_location(ast.Pass(), node) if (node.lineno, node.col_offset) in self.converted else node
        )
