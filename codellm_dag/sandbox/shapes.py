"""The shapes of assertion that can be judged outside: a call of the function and what it must give.

Recognising a shape looks at syntax only. The parts it finds are expressions; `asserts.py` folds them to
constants, `recorded.py` has them evaluated in a run of the reference solution.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass

from codellm_dag.sandbox.compare import Comparison
from codellm_dag.sandbox.judge import VIEWS
from codellm_dag.sandbox.predicates import OUTPUT

_VIEWS: dict[str, Comparison] = {
    "tuple": "equal_as_tuple",
    "list": "equal_as_list",
    "set": "equal_as_set",
    "frozenset": "equal_as_set",
    "sorted": "equal_sorted",
}
_ABSOLUTE = ("abs", "math.fabs", "fabs")


class UnknownShapeError(ValueError):
    """The assertion has none of the known shapes."""


@dataclass(frozen=True)
class Shape:
    """One comparison of a call: expressions still to be evaluated.

    For ``holds``, `expected` is the predicate itself, over ``output`` and whatever names the test has.
    """

    call: ast.Call
    expected: ast.expr
    comparison: Comparison
    tolerance: ast.expr | None = None
    inclusive: bool = False
    """``within`` was written with ``<=``."""


def repeats(shape: Shape, entry_point: str) -> bool:
    """Whether the expected value is the same call of the same function again, under its own name.

    Such an assertion (three in HumanEval/33) holds for every function that returns a value at all.
    """
    expected = shape.expected
    if shape.comparison in VIEWS and isinstance(expected, ast.Call) and len(expected.args) == 1:
        expected = expected.args[0]
    call = ast.Call(ast.Name(entry_point), shape.call.args, shape.call.keywords)
    return ast.unparse(expected) == ast.unparse(call)


def recognise(test: ast.expr, callee: str) -> list[Shape]:
    """The shapes in an asserted expression about calls of `callee`. Raises UnknownShapeError."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return [shape for part in test.values for shape in recognise(part, callee)]
    try:
        return [_special(test, callee)]
    except UnknownShapeError:
        return [_predicate(test, callee)]


def _predicate(test: ast.expr, callee: str) -> Shape:
    """Any expression with one call of the callee, which may stand in it more than once."""
    replacement = _CallsByOutput(callee)
    predicate = replacement.visit(copy.deepcopy(test))
    if len(replacement.calls) != 1 or mentions(predicate, callee) or mentions(test, OUTPUT):
        raise UnknownShapeError(ast.unparse(test)[:80])
    (call,) = replacement.calls.values()
    return Shape(call, predicate, "holds")


class _CallsByOutput(ast.NodeTransformer):
    def __init__(self, callee: str) -> None:
        self.callee = callee
        self.calls: dict[str, ast.Call] = {}

    def visit_Call(self, node: ast.Call) -> ast.expr:
        try:
            self.calls[ast.unparse(node)] = _call(node, self.callee)
        except UnknownShapeError:
            return self.generic_visit(node)  # type: ignore[return-value]
        return ast.Name(OUTPUT, ast.Load())


def _special(test: ast.expr, callee: str) -> Shape:
    match test:
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _comparison(left, op, right, callee)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return Shape(_call(operand, callee), ast.Constant(False), "falsy")
        case ast.Call(func=function, args=[one, two], keywords=keywords) if (
            _dotted(function) == "math.isclose"
        ):
            return _isclose(one, two, keywords, callee)
    return Shape(_call(test, callee), ast.Constant(True), "truthy")


def mentions(node: ast.AST, callee: str) -> bool:
    """Whether the name `callee` is used anywhere in `node`."""
    return any(isinstance(part, ast.Name) and part.id == callee for part in ast.walk(node))


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr, callee: str) -> Shape:
    if isinstance(op, (ast.Lt, ast.LtE)):
        return _distance(left, right, isinstance(op, ast.LtE), callee)
    if not mentions(left, callee):
        left, right = right, left
    match op:
        case ast.Eq():
            return _equality(left, right, callee)
        case ast.NotEq():
            return Shape(_call(left, callee), right, "not_equal")
        case ast.Is() if isinstance(right, ast.Constant) and right.value in (None, True, False):
            return Shape(_call(left, callee), right, "identical")
    raise UnknownShapeError(ast.unparse(left))


def _equality(left: ast.expr, right: ast.expr, callee: str) -> Shape:
    match left:
        case ast.Call(func=ast.Name(id=view), args=[inner], keywords=[]) if view in _VIEWS and view != callee:
            # ``tuple(f(x)) == y``: y is made a tuple too, which changes nothing if it is one, as it must be.
            if _makes(right) not in ({"sorted": "list"}.get(view, view), view):
                raise UnknownShapeError(f"{view} is compared with something else")
            return Shape(_call(inner, callee), right, _VIEWS[view])
    return Shape(_call(left, callee), right, "equal")


def _makes(node: ast.expr) -> str:
    """The name of the type that an expression certainly gives, as far as its syntax tells."""
    if isinstance(node, ast.Call):
        return _dotted(node.func)
    kinds = {ast.List: "list", ast.ListComp: "list", ast.Tuple: "tuple", ast.Set: "set", ast.SetComp: "set"}
    return kinds.get(type(node), "")


def _distance(left: ast.expr, tolerance: ast.expr, inclusive: bool, callee: str) -> Shape:
    """``abs(candidate(…) - value) < tolerance``."""
    match left:
        case ast.Call(func=function, args=[ast.BinOp(op=ast.Sub(), left=one, right=two)], keywords=[]):
            if _dotted(function) in _ABSOLUTE:
                one, two = (one, two) if mentions(one, callee) else (two, one)
                return Shape(_call(one, callee), two, "within", tolerance, inclusive)
    raise UnknownShapeError(ast.unparse(left))


def _isclose(one: ast.expr, two: ast.expr, keywords: list[ast.keyword], callee: str) -> Shape:
    given = {keyword.arg: keyword.value for keyword in keywords}
    if not given.keys() <= {"rel_tol"}:
        raise UnknownShapeError("math.isclose with an absolute tolerance")
    one, two = (one, two) if mentions(one, callee) else (two, one)
    return Shape(_call(one, callee), two, "relative", given.get("rel_tol", ast.Constant(1e-9)))


def _call(node: ast.expr, callee: str) -> ast.Call:
    """A direct call of the callee whose arguments do not use it again."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == callee:
        parts = [*node.args, *(keyword.value for keyword in node.keywords)]
        if not any(mentions(part, callee) for part in parts) and all(
            keyword.arg for keyword in node.keywords
        ):
            return node
    raise UnknownShapeError(ast.unparse(node)[:80])


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""
