"""Functions of a module that stand alone: with the helpers and imports they use, and nothing else.

`functions_of` reads source with `ast` and runs nothing. A helper is a function, class or assignment at the
top of the same module, found through the names that are used, again and again. Not found: names that exist
only while the module runs (``globals()``, ``import *``); such a function fails in the sandbox or in the
linter.
"""

from __future__ import annotations

import ast
import builtins
import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_BUILTINS = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__"}
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
MOST_HELPERS = 20
"""Definitions a function may need besides itself; beyond that it is a module, not a function."""


class NotAloneError(ValueError):
    """Why a function does not stand alone: a reason (one of few) and what exactly."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Function:
    """A documented function. ``head`` is its source up to the docstring (decorators, signature), ``body`` the
    source after it; ``helpers`` is the source of imports and helpers, their docstrings taken out. All end in
    a newline, or are ""."""

    name: str
    docstring: str
    head: str
    body: str
    helpers: str

    @property
    def program(self) -> str:
        """Helpers and function, without docstrings."""
        gap = "\n\n" if self.helpers else ""
        return f"{self.helpers}{gap}{self.head}{self.body}"


def documented(module: ast.Module) -> Iterator[ast.FunctionDef]:
    """The functions at the top of a module that have a docstring."""
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            yield node


def standalone(module: ast.Module, lines: Sequence[str], node: ast.FunctionDef) -> Function:
    """`node` with what it needs. `lines` are the module's, without line ends.

    Raises NotAloneError: ``layout`` (a body on the docstring's line, or none), ``decorated``, ``import`` (not
    of the standard library), ``name`` (defined nowhere at the top of the module), ``helpers`` (too many).
    """
    document, *rest = node.body
    if not rest or rest[0].lineno <= (document.end_lineno or 0) or document.lineno <= node.lineno:
        raise NotAloneError("layout", "docstring and body must have lines of their own")
    if node.decorator_list:
        raise NotAloneError("decorated", ast.unparse(node.decorator_list[0]))
    helpers = _closure(module, node)
    return Function(
        node.name,
        ast.get_docstring(node, clean=True) or "",
        _lines(lines, node.lineno, document.lineno - 1),
        _lines(lines, (document.end_lineno or 0) + 1, node.end_lineno or 0).lstrip("\n"),
        "".join(_undocumented(helper) for helper in helpers).lstrip("\n"),
    )


def _lines(lines: Sequence[str], first: int, last: int) -> str:
    """Lines `first` to `last`, counted from 1."""
    return "".join(f"{line.rstrip()}\n" for line in lines[first - 1 : last])


def _closure(module: ast.Module, node: ast.FunctionDef) -> list[ast.stmt]:
    """The statements at the top of the module that `node` needs, in the module's order, imports first."""
    known: dict[str, ast.stmt] = {}
    for statement in module.body:
        for name in _bound(statement):
            known[name] = statement  # the last one counts, as when the module has been run
    needed: dict[int, ast.stmt] = {}
    waiting = sorted(_used(node) - {node.name})
    if known.get(node.name) is not node:
        raise NotAloneError("name", f"{node.name} is bound again")
    while waiting:
        name = waiting.pop()
        if name in known and known[name] is not node:
            statement = known[name]
            if id(statement) not in needed:
                needed[id(statement)] = statement
                _check_import(statement)
                waiting += sorted(_used(statement) - {node.name})
        elif name not in _BUILTINS and name != node.name:
            raise NotAloneError("name", f"{name} is not defined at the top of the module")
    if len(needed) > MOST_HELPERS:
        raise NotAloneError("helpers", f"{len(needed)} definitions")
    imports = [s for s in module.body if id(s) in needed and isinstance(s, ast.Import | ast.ImportFrom)]
    others = [s for s in module.body if id(s) in needed and not isinstance(s, ast.Import | ast.ImportFrom)]
    if any(node.name in _used(helper) for helper in others):
        raise NotAloneError("helpers", "a helper uses the function itself")
    names = set().union(_used(node), *(_used(helper) for helper in others))
    return [_only(statement, names) for statement in imports] + others


def _only(statement: ast.stmt, names: set[str]) -> ast.stmt:
    """An import cut down to the names that are used."""
    assert isinstance(statement, ast.Import | ast.ImportFrom)
    kept = [alias for alias in statement.names if (alias.asname or alias.name.split(".")[0]) in names]
    if isinstance(statement, ast.Import):
        return ast.Import(kept)
    return ast.ImportFrom(statement.module, kept, statement.level)


def _bound(statement: ast.stmt) -> set[str]:
    """Names that a statement at the top of a module binds."""
    if isinstance(statement, _DEFINITIONS):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.split(".")[0] for alias in statement.names}
    if isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return set()


def _check_import(statement: ast.stmt) -> None:
    if isinstance(statement, ast.ImportFrom):
        names = ["." * statement.level + (statement.module or "")]
    elif isinstance(statement, ast.Import):
        names = [alias.name for alias in statement.names]
    else:
        return
    for name in names:
        if name.split(".")[0] not in sys.stdlib_module_names:
            raise NotAloneError("import", f"{name} is not of the standard library")


def _used(node: ast.AST) -> set[str]:
    """Names that `node` reads and does not bind itself anywhere; annotations count, strings do not."""
    read: set[str] = set()
    own: set[str] = set()
    shared: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            (read if isinstance(part.ctx, ast.Load) else own).add(part.id)
        elif isinstance(part, ast.arg):
            own.add(part.arg)
        elif isinstance(part, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and part.name:
            own.add(part.name)
        elif isinstance(part, ast.alias):
            own.add(part.asname or part.name.split(".")[0])
        elif isinstance(part, ast.Global):
            shared.update(part.names)
        elif isinstance(part, _DEFINITIONS) and part is not node:
            own.add(part.name)
    return read - own | shared


def _undocumented(statement: ast.stmt) -> str:
    """A statement's source without docstrings (expected values may stand in them); two blank lines before a
    definition."""
    statement = copy.deepcopy(statement)
    for part in ast.walk(statement):
        if isinstance(part, _DEFINITIONS) and ast.get_docstring(part, clean=False) is not None:
            part.body = part.body[1:] or [ast.Pass()]
    gap = "\n\n" if isinstance(statement, _DEFINITIONS) else ""
    return f"{gap}{ast.unparse(statement)}\n"
