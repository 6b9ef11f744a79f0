"""What can make two computations differ: their recipes, code, packages, sources, inputs and machines.

`own_causes` compares two nodes of the same place in two lineages and leaves their inputs' contents aside:
those are somebody else's causes. Not covered: aligning whole lineages, which is `diff.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from codellm_dag.lineage.graph import Node
from codellm_dag.store import Environment, Manifest

CauseKind = Literal["recipe", "code", "package", "source", "input", "stage", "machine", "unknown"]

ABSENT = "–"
"""Stands for a field, package or module that one side does not have."""

_SOURCE_FIELD = re.compile(r"sources\.(\d+)\.(\w+)")
_RESOLVED = ("content_digest", "sha256", "version", "file")
"""Fields of a source that follow from what lies on the machine, not from what a person chose."""
_MACHINE = ("cpu_model", "devices", "threads", "micro_rows", "processes", "image_digest")
"""What of an environment can change the last bits of a float sum."""
_CONTEXT = ("git_commit", "git_diff_digest", "platform", "cpu_cores", "memory_bytes", "workers")


@dataclass(frozen=True)
class Cause:
    """One reason why two numbers may differ.

    ``effect`` is False if an artifact between the cause and the number came out with the same content, so
    that the cause cannot have reached the number.
    """

    kind: CauseKind
    field: str
    before: Any
    after: Any
    asset: str = ""
    """The asset whose recipe, stage or input it is; empty for what belongs to no single asset."""
    where: tuple[str, ...] = ()
    """The asset partitions that it concerns."""
    effect: bool = True
    details: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for what is one cause seen at several artifacts."""
        return (self.kind, self.asset, self.field, repr(self.before), repr(self.after))


def own_causes(a: Node, b: Node) -> Iterator[Cause]:
    """What differs between two computations of one stage, apart from the contents of inputs both have."""
    if a.manifest is None or b.manifest is None:
        kept = ["deleted" if node.manifest is None else "kept" for node in (a, b)]
        told = ("what was computed cannot be read any more",)
        yield _cause("unknown", a, b, "manifest", kept[0], kept[1], told)
        return
    before, after = a.manifest.identity, b.manifest.identity
    yield from _recipe_causes(a, b, before.get("recipe", {}), after.get("recipe", {}))
    for name, old, new in differences(before.get("external", {}), after.get("external", {})):
        yield _cause("source", a, b, name, old, new)
    for name, old, new in differences(_packages(a.manifest), _packages(b.manifest)):
        yield Cause("package", name, old, new, where=_where(a, b))
    for module, old, new in differences(a.manifest.code, b.manifest.code, depth=1):
        yield Cause("code", module, old, new, where=_where(a, b))
    for slot in sorted(a.inputs.keys() ^ b.inputs.keys()):
        yield _cause("input", a, b, slot, _input(a, slot), _input(b, slot))


def machine_causes(a: Node, b: Node) -> Iterator[Cause]:
    """Differences of the machines that can change a result's last bits; no fingerprint covers them."""
    if a.manifest is None or b.manifest is None:
        return
    old, new = a.manifest.environment, b.manifest.environment
    for name in _MACHINE:
        if getattr(old, name) != getattr(new, name):
            yield Cause("machine", name, getattr(old, name), getattr(new, name), where=_where(a, b))


def context_differences(old: Environment, new: Environment) -> dict[str, tuple[Any, Any]]:
    """What else differs about where and when: shown for completeness, it is no part of the computation."""
    found = {
        name: (getattr(old, name), getattr(new, name))
        for name in _CONTEXT
        if getattr(old, name) != getattr(new, name)
    }
    for name, before, after in differences(old.packages, new.packages):
        found[f"package {name}"] = (before, after)
    return found


def differences(old: Any, new: Any, prefix: str = "", depth: int = 99) -> Iterator[tuple[str, Any, Any]]:
    """Dotted name, old and new value of each innermost field in which two JSON values differ.

    Lists of the same length are compared item by item (``sources.0.seed``), others as a whole.
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping) and depth:
        for key in sorted(old.keys() | new.keys()):
            pair = old.get(key, ABSENT), new.get(key, ABSENT)
            yield from differences(*pair, f"{prefix}.{key}" if prefix else key, depth - 1)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new) and depth:
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{prefix}.{index}" if prefix else str(index), depth - 1)
    elif type(old) is not type(new) or old != new:
        yield prefix, old, new


def _recipe_causes(a: Node, b: Node, old: Any, new: Any) -> Iterator[Cause]:
    """Fields that a person changed; what a source's content resolved to is one cause of kind source."""
    changed = list(differences(old, new))
    chosen = {m[1] for name, _, _ in changed if (m := _SOURCE_FIELD.match(name)) and m[2] not in _RESOLVED}
    told: set[str] = set()
    for name, before, after in changed:
        source = _SOURCE_FIELD.fullmatch(name)
        if source is None or source[2] not in _RESOLVED:
            yield _cause("recipe", a, b, name, before, after)
        elif source[1] not in chosen | told:
            told.add(source[1])
            yield _source_cause(a, b, changed, int(source[1]))


def _source_cause(a: Node, b: Node, changed: list[tuple[str, Any, Any]], index: int) -> Cause:
    """One cause for a source whose content, hence digest and perhaps version, is another."""
    values = {
        name.rpartition(".")[2]: pair for name, *pair in changed if name.startswith(f"sources.{index}.")
    }
    before, after = next(values[name] for name in ("version", *_RESOLVED) if name in values)
    recipe = b.recipe["sources"][index]
    name = recipe.get("name") or recipe.get("package") or recipe.get("path") or recipe.get("kind", str(index))
    return _cause("source", a, b, str(name), before, after)


def _packages(manifest: Manifest) -> dict[str, str]:
    """The versions that count: the declared packages and, as it is the platform of all, Python."""
    return {**manifest.identity.get("packages", {}), "python": manifest.environment.python}


def _input(node: Node, slot: str) -> str:
    return node.inputs[slot].label if slot in node.inputs else ABSENT


def _where(a: Node, b: Node) -> tuple[str, ...]:
    return (a.label,) if a.label == b.label else (a.label, b.label)


def _cause(
    kind: CauseKind, a: Node, b: Node, name: str, before: Any, after: Any, details: tuple[str, ...] = ()
) -> Cause:
    return Cause(kind, name, before, after, asset=b.artifact.name, where=_where(a, b), details=details)
