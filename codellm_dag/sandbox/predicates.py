"""Assertions that are neither equality nor tolerance, as expressions over ``output``: ``len(output) == 2``.

Such a predicate is pure: operators, comprehensions, a few builtins and functions of `math`, literals. It is
folded outside by `literals.py`, which executes nothing; short helper functions take the place of their calls.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping
from typing import Any

from codellm_dag.sandbox.literals import NotConstantError, fold, is_known, is_supported

OUTPUT = "output"
"""The name that stands for what the call returned."""
_MOST_INLINED = 50


def holds(source: str, value: Any) -> bool:
    """Whether the predicate is true of `value`; False if it cannot be computed, as for a wrong type."""
    try:
        return bool(fold(ast.parse(source, mode="eval").body, {OUTPUT: value}))
    except (NotConstantError, SyntaxError, RecursionError):
        return False


def close_over(predicate: ast.expr, names: Mapping[str, str]) -> str:
    """The predicate's source with literals (source text) in place of `names`.

    Raises NotConstantError unless what remains can be computed from ``output`` alone.
    """
    bound = {name: ast.parse(text, mode="eval").body for name, text in names.items()}
    closed = substitute(predicate, bound)
    unknown = free_names(closed) - {OUTPUT}
    if unknown:
        raise NotConstantError(f"{', '.join(sorted(unknown))} not known")
    if OUTPUT in names or not is_supported(closed):
        raise NotConstantError(f"{ast.unparse(predicate)[:80]} must be executed")
    return ast.unparse(closed)


def free_names(predicate: ast.expr) -> set[str]:
    """Names that a predicate uses and does not bind itself, other than those every predicate knows."""
    used = {node.id for node in ast.walk(predicate) if isinstance(node, ast.Name)}
    modules = {
        node.value.id
        for node in ast.walk(predicate)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and is_known(ast.unparse(node))
    }
    return {name for name in used - modules - _bound(predicate) if not is_known(name)}


def substitute(expression: ast.expr, bound: Mapping[str, ast.expr]) -> ast.expr:
    """A copy of the expression with expressions in place of names."""
    return _Substitution(bound).visit(copy.deepcopy(expression))


def inline(predicate: ast.expr, module: ast.Module) -> ast.expr:
    """The predicate with calls of one-``return`` functions of `module` replaced by what they return."""
    return _Inliner(module).visit(copy.deepcopy(predicate))


def _bound(node: ast.AST) -> set[str]:
    return {
        part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
    }


class _Substitution(ast.NodeTransformer):
    """Puts expressions in place of names, but for those that a comprehension binds."""

    def __init__(self, bound: Mapping[str, ast.expr]) -> None:
        self.bound = bound

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and node.id in self.bound:
            return copy.deepcopy(self.bound[node.id])
        return node


class _Inliner(ast.NodeTransformer):
    def __init__(self, module: ast.Module) -> None:
        self.functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
        self.inlined = 0

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        function = self.functions.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if function is None or node.keywords or self.inlined >= _MOST_INLINED:
            return node
        parameters = [argument.arg for argument in function.args.args]
        body = [part for part in function.body if not _is_docstring(part)]
        if len(parameters) != len(node.args) or len(body) != 1 or not isinstance(body[0], ast.Return):
            return node
        returned = body[0].value
        own = set().union(
            *({part.id for part in ast.walk(a) if isinstance(part, ast.Name)} for a in node.args)
        )
        if returned is None or _bound(returned) & (own | set(parameters)):
            return node  # a name would be captured
        self.inlined += 1
        arguments = dict(zip(parameters, node.args, strict=True))
        return self.visit(substitute(returned, arguments))


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
