"""Converts tests that must be run to be known: random inputs, helpers of the prompt, the reference's answers.

The test is run once in the sandbox with the *reference* solution; each assertion of a known shape notes its
arguments and its expected value instead of being checked. No candidate is anywhere near that process, and the
candidates' processes never see the values. Random inputs are drawn with the sandbox's fixed seed, so the same
Python gives the same tests.
"""

from __future__ import annotations

import ast
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
from codellm_dag.sandbox.pool import Sandbox
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
    check = find_check(ast.parse(test_source))
    recorder = _Recorder(check.args.args[0].arg if check else entry_point)
    instrumented = runnable_source(recorder.visit(ast.parse(test_source)), entry_point)
    source = f"{reference}\n{_PRELUDE}{instrumented}{_NOTED}"
    limits = Limits(cpu_seconds=30.0, wall_seconds=120.0, output_bytes=16 << 20)
    execution = sandbox.run_one(Program(source, (Call("__noted__"),), limits=limits))
    if execution.status != "finished" or not execution.outputs or execution.outputs[0].value is None:
        return failed
    try:
        tests = _tests(to_python(parse(execution.outputs[0].value)), recorder.shapes, entry_point)
    except UnsupportedValueError:
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
        tests.append(make_test(call, expected, shapes[number], float(tolerance)))
    return tuple(tests)


class _Recorder(ast.NodeTransformer):
    """Replaces each assertion of a known shape by a note of its parts."""

    def __init__(self, callee: str) -> None:
        self.callee = callee
        self.shapes: list[Shape] = []
        self.converted: set[tuple[int, int]] = set()

    def visit_Assert(self, node: ast.Assert) -> ast.stmt | list[ast.stmt]:
        if not mentions(node.test, self.callee):
            return node
        try:
            shapes = recognise(node.test, self.callee)
        except UnknownShapeError:
            return node
        self.converted.add((node.lineno, node.col_offset))
        return [self._note(shape) for shape in shapes]

    def _note(self, shape: Shape) -> ast.stmt:
        self.shapes.append(shape)
        keywords = shape.call.keywords
        note = ast.Tuple(
            [
                ast.Constant(len(self.shapes) - 1),
                ast.List(shape.call.args, ast.Load()),
                ast.Dict([ast.Constant(k.arg) for k in keywords], [k.value for k in keywords]),
                shape.expected,
                shape.tolerance or ast.Constant(0.0),
            ],
            ast.Load(),
        )
        # The test may have its own `copy` or `str`; these names are ours alone.
        template = ast.parse(f"{_NOTES}.append(__copy__.deepcopy(0))").body[0]
        assert isinstance(template, ast.Expr)
        assert isinstance(template.value, ast.Call)
        copied = template.value.args[0]
        assert isinstance(copied, ast.Call)
        copied.args = [note]
        return template


class _Remover(ast.NodeTransformer):
    """Takes the converted assertions out of a test."""

    def __init__(self, converted: set[tuple[int, int]]) -> None:
        self.converted = converted

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        return (
            ast.copy_location(ast.Pass(), node) if (node.lineno, node.col_offset) in self.converted else node
        )
