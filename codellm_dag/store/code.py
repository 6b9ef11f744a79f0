"""The digest of the code behind a stage: its module and all it reaches in our packages, read, never imported.

A module counts through its syntax tree without comments, formatting, docstrings, blocks under
``TYPE_CHECKING``, the texts of pydantic fields (description, title) and ``__version__``: none of them can
change a result. Reached are modules named by any import statement, wherever it stands, the packages around
them (their ``__init__`` runs too), modules named by a string such as ``"codellm_dag.rl.advantages.rloo"``,
data files lying beside a module that names them in a string, and all files of a folder beside a module that
joins its name to a path (``HERE / "inside"``). Names put together at run time are not seen; a stage that
computes a module's name must import the candidates somewhere. Left out are modules that only say where a
stage runs (`_WHERE_IT_RUNS`).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from codellm_dag.store.errors import StoreError
from codellm_dag.store.fingerprint import digest
from codellm_dag.store.paths import cache_root
from codellm_dag.store.syntax import FORMAT, ModuleFacts, read_module

_OWN = "codellm_dag"
_WHERE_IT_RUNS = frozenset({"codellm_dag.recipes.pods"})
"""Reached through `Runtime` by every stage; a new field of a pod must not compute everything again."""


@dataclass(frozen=True)
class CodeDigest:
    """One digest for all code, and the digest of each module (or data file) in it."""

    digest: str
    modules: dict[str, str] = field(default_factory=dict)


def code_digest(*roots: str) -> CodeDigest:
    """The code reached from the modules `roots`, e.g. ``codellm_dag.tokens.tokenizer``.

    Followed are modules of `codellm_dag` and of the roots' own top-level packages. Raises StoreError if a
    root cannot be found or a module cannot be parsed.
    """
    followed = {_OWN, *(root.partition(".")[0] for root in roots)}
    digests: dict[str, str] = {}
    waiting = list(roots)
    for root in roots:
        if _locate(root) is None:
            raise StoreError(f"there is no module {root!r}; a stage's module must be importable by that name")
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name in _WHERE_IT_RUNS or name.partition(".")[0] not in followed:
            continue
        seen.add(name)
        waiting.extend(_ancestors(name))
        path = _locate(name)
        if path is None:
            continue
        facts = _facts(path)
        digests[name] = facts.digest
        digests.update(_data_files(name, path, facts))
        waiting.extend(_imported(name, path, facts))
        waiting.extend(_modules_of_folders(name, path, facts))
    return CodeDigest(digest(digests), dict(sorted(digests.items())))


def _ancestors(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _imported(name: str, path: Path, facts: ModuleFacts) -> Iterator[str]:
    package = _package(name, path)
    for module, level, names in facts.imports:
        base = module
        if level:
            parts = package.split(".")
            kept = parts[: len(parts) - level + 1]
            base = ".".join([*kept, module] if module else kept)
        if base:
            yield base
            yield from (f"{base}.{item}" for item in names if item != "*")
    yield from facts.named_modules


def _data_files(name: str, path: Path, facts: ModuleFacts) -> dict[str, str]:
    """Digests of the data files that a module names and that lie beside it."""
    package = _package(name, path).replace(".", "/")
    found = {}
    for text in [*facts.named_files, *_files_of_folders(path.parent, facts)]:
        candidate = path.parent / text
        if candidate.suffix != ".py" and candidate.is_file():
            found[f"{package}/{text}"] = hashlib.sha256(candidate.read_bytes()).hexdigest()
    return found


def _modules_of_folders(name: str, path: Path, facts: ModuleFacts) -> Iterator[str]:
    """Modules in folders that a module names by path, such as code that is mounted into a sandbox."""
    for text in _files_of_folders(path.parent, facts):
        if text.endswith(".py"):
            inner = text.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            yield f"{_package(name, path)}.{inner}"


def _files_of_folders(beside: Path, facts: ModuleFacts) -> Iterator[str]:
    for folder in facts.named_folders:
        for file in sorted((beside / folder).rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                yield file.relative_to(beside).as_posix()


def _package(name: str, path: Path) -> str:
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


def _locate(name: str) -> Path | None:
    """The file of a module, found by name in its top-level package's folders; None if there is none."""
    top, *rest = name.split(".")
    for folder, file in _top_level(top):
        if not rest:
            if file is not None:
                return file
            continue
        base = folder.joinpath(*rest)
        for candidate in (base / "__init__.py", base.with_name(base.name + ".py")):
            if candidate.is_file():
                return candidate
    return None


@lru_cache(maxsize=64)
def _top_level(top: str) -> tuple[tuple[Path, Path | None], ...]:
    """Folders of a top-level package, each with its ``__init__`` (or the single file of a plain module)."""
    if top == _OWN:
        own = Path(__file__).resolve().parents[1]
        return ((own, own / "__init__.py"),)
    try:
        spec = importlib.util.find_spec(top)  # for a top-level name this finds without importing
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return ()
    file = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    if not folders and file is not None:
        return ((file.parent / "\0", file),)
    return tuple((folder, file) for folder in folders)


_memory: dict[Path, tuple[tuple[int, int], ModuleFacts]] = {}


def _facts(path: Path) -> ModuleFacts:
    """What a source file says; remembered in this process by time and size, on disk by content."""
    status = path.stat()
    stamp = (status.st_mtime_ns, status.st_size)
    known = _memory.get(path)
    if known is None or known[0] != stamp:
        known = (stamp, _facts_by_content(path))
        _memory[path] = known
    return known[1]


def _facts_by_content(path: Path) -> ModuleFacts:
    source = path.read_bytes()
    key = hashlib.sha256(f"{FORMAT}:".encode() + source).hexdigest()
    cached = cache_root() / "code" / key[:2] / f"{key}.json"
    try:
        return ModuleFacts.from_json(json.loads(cached.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        facts = read_module(source)
    except (SyntaxError, ValueError) as error:
        raise StoreError(f"{path} cannot be parsed: {error}") from error
    _remember(cached, facts)
    return facts


def _remember(cached: Path, facts: ModuleFacts) -> None:
    temporary = cached.with_name(f"{cached.name}.{os.getpid()}")
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(facts.to_json()))
        temporary.replace(cached)
    except OSError:
        temporary.unlink(missing_ok=True)  # a cache that cannot be written only costs time
