"""A Python source file as the code digest sees it: a stable dump of its syntax, and what it refers to.

The dump is our own and not `ast.dump`'s, so that it is the same under every Python version that parses the
source to the same tree.
"""

from __future__ import annotations

import ast
import hashlib
import re
from dataclasses import dataclass
from typing import Any, Self

FORMAT = 1
"""Raised whenever the dump changes: all code digests change with it."""

_FIELD_TEXTS = ("description", "title", "examples")
_MODULE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?::\w+)?")
_FILE = re.compile(r"(?!\.)[\w./-]{1,100}\.[A-Za-z0-9]{1,8}")
_FOLDER = re.compile(r"\w+(?:/\w+)*")
_SKIPPED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


@dataclass(frozen=True)
class ModuleFacts:
    """Digest and references of one module.

    `imports` holds (module, relative level, names) as written; the others hold strings that look like a
    module of some package, like a file name, and those joined to a path with ``/`` (a folder, perhaps).
    """

    digest: str
    imports: tuple[tuple[str, int, tuple[str, ...]], ...]
    named_modules: tuple[str, ...]
    named_files: tuple[str, ...]
    named_folders: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "digest": self.digest,
            "imports": self.imports,
            "named_modules": self.named_modules,
            "named_files": self.named_files,
            "named_folders": self.named_folders,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """From `to_json`'s values; raises KeyError, TypeError or ValueError for others."""
        return cls(
            digest=values["digest"],
            imports=tuple((module, level, tuple(names)) for module, level, names in values["imports"]),
            named_modules=tuple(values["named_modules"]),
            named_files=tuple(values["named_files"]),
            named_folders=tuple(values["named_folders"]),
        )


def read_module(source: bytes) -> ModuleFacts:
    """Parse a source file. Raises SyntaxError or ValueError."""
    tree = _Normalise().visit(ast.parse(source))
    imports: list[tuple[str, int, tuple[str, ...]]] = []
    modules: set[str] = set()
    files: set[str] = set()
    folders: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.extend((alias.name, 0, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.module or "", node.level, tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            folders.update(_folder_name(node.right))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if match := _MODULE.fullmatch(node.value):
                modules.add(match[1])
            if _FILE.fullmatch(node.value):
                files.add(node.value)
    parts: list[str] = []
    _dump(tree, parts)
    return ModuleFacts(
        digest=hashlib.sha256("".join(parts).encode("utf-8", "surrogatepass")).hexdigest(),
        imports=tuple(sorted(set(imports))),
        named_modules=tuple(sorted(modules)),
        named_files=tuple(sorted(files)),
        named_folders=tuple(sorted(folders)),
    )


def _folder_name(joined: ast.expr) -> tuple[str, ...]:
    text = joined.value if isinstance(joined, ast.Constant) else None
    return (text,) if isinstance(text, str) and _FOLDER.fullmatch(text) else ()


class _Normalise(ast.NodeTransformer):
    """Takes out what cannot change a result."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        if _is_type_checking(node.test):
            return [self.visit(child) for child in node.orelse] or None
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return None if names == ["__version__"] else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [item for item in node.keywords if item.arg not in _FIELD_TEXTS]
        return self.generic_visit(node)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _dump(node: Any, parts: list[str]) -> None:
    """Append a text that determines `node`; empty fields are left out, so a later Python's do not count."""
    if isinstance(node, ast.Constant):
        parts.append(f"{type(node.value).__name__}:{node.value!r};")
    elif isinstance(node, ast.AST):
        parts.append(f"{type(node).__name__}(")
        for name in node._fields:
            value = getattr(node, name, None)
            if name in _SKIPPED_FIELDS or value is None or value == []:
                continue
            parts.append(f"{name}=")
            _dump(value, parts)
        parts.append(")")
    elif isinstance(node, list):
        parts.append("[")
        for item in node:
            _dump(item, parts)
            parts.append(",")
        parts.append("]")
    else:
        parts.append(f"{node!r};")
