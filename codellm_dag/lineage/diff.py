"""Why two numbers differ: their lineages laid over each other, slot by slot.

What differs is split in two. *Causes* are what somebody or something changed: a recipe field, a code
module, a package, a source's content, an input, a whole stage, the machine. *Consequences* are the
artifacts and numbers that came out differently because of them. A cause seen at many artifacts is one
cause. Differences that an artifact with equal content stops on their way to the number are marked as
without effect.

Where one model went through more stages than the other (pretraining only against reinforcement learning), the
stages in between are causes of kind ``stage``, and the rest is compared below them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from codellm_dag.lineage.causes import Cause, context_differences, differences, machine_causes, own_causes
from codellm_dag.lineage.graph import Node, nodes


@dataclass(frozen=True)
class MetricChange:
    """A number that a stage reported, in both lineages; ``–`` where one did not."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Consequence:
    """An artifact that has another content in the second lineage."""

    path: str
    """Slots that lead to it from the score, joined by ``/``; empty for the report itself."""
    before: str
    """Its label in the first lineage."""
    after: str
    content_before: str
    content_after: str
    files_changed: tuple[str, ...]
    metrics: tuple[MetricChange, ...]
    """Every final number of the stage that differs."""


@dataclass
class Difference:
    """All that differs between two lineages. `context` is what differs but is no part of the computation."""

    causes: list[Cause] = field(default_factory=list)
    consequences: list[Consequence] = field(default_factory=list)
    context: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    shared: int = 0
    """Artifacts that both lineages have, with the same content."""
    corpora: list[tuple[Node, Node]] = field(default_factory=list)
    """Pairs of raw corpora with different contents, for a look at their files."""


def compare(a: Node, b: Node) -> Difference:
    """Compare two lineages from the score down."""
    comparison = _Comparison()
    comparison.visit(a, b, (), effect=True)
    comparison.visit_ineffective()
    found = comparison.found
    found.causes = list(comparison.causes.values())
    found.shared = len(_results(a) & _results(b))
    return found


def _results(root: Node) -> set[tuple[str, str]]:
    return {(node.artifact.stage, node.artifact.content_digest) for node in nodes(root)}


class _Comparison:
    """Walks both lineages at once; each pair of computations is looked at once."""

    def __init__(self) -> None:
        self.found = Difference()
        self.causes: dict[tuple[str, ...], Cause] = {}
        self._seen: set[tuple[str, str]] = set()
        self._stopped: list[tuple[Node, Node, tuple[str, ...]]] = []

    def visit(self, a: Node, b: Node, path: tuple[str, ...], *, effect: bool) -> None:
        """Compare two nodes of the same place, and what lies below them."""
        pair = (a.artifact.fingerprint, b.artifact.fingerprint)
        same_content = a.artifact.content_digest == b.artifact.content_digest
        if pair in self._seen or (pair[0] == pair[1] and same_content and (path or not _inputs_differ(a, b))):
            return
        if same_content and path and effect:  # nothing below can have had an effect through here
            self._stopped.append((a, b, path))
            return
        self._seen.add(pair)
        a, b = self._level(a, b, path, effect)
        if a.artifact.stage != b.artifact.stage:
            return
        self._look(a, b, path, effect)
        for slot in a.inputs:
            if slot in b.inputs:
                self.visit(a.inputs[slot], b.inputs[slot], (*path, slot), effect=effect)

    def visit_ineffective(self) -> None:
        """Compare what lies above artifacts that came out equal, unless it had an effect by another way."""
        for a, b, path in self._stopped:
            self.visit(a, b, path, effect=False)

    def _look(self, a: Node, b: Node, path: tuple[str, ...], effect: bool) -> None:
        own = list(own_causes(a, b))
        differ = a.artifact.content_digest != b.artifact.content_digest
        if differ:
            self.found.consequences.append(_consequence(a, b, path))
            if a.artifact.stage == "raw_corpus":
                self.found.corpora.append((a, b))
            machine = list(machine_causes(a, b))
            own += machine
            if not own and not _inputs_differ(a, b):
                own.append(_nondeterminism(a, b))
        for cause in own:
            self._add(replace(cause, effect=effect))
        if a.manifest and b.manifest:
            self.found.context.update(context_differences(a.manifest.environment, b.manifest.environment))

    def _level(self, a: Node, b: Node, path: tuple[str, ...], effect: bool) -> tuple[Node, Node]:
        """The nodes to compare when one lineage has stages here that the other has not."""
        if a.artifact.stage == b.artifact.stage:
            return a, b
        slot = path[-1] if path else ""
        for longer, stage, added in ((b, a.artifact.stage, True), (a, b.artifact.stage, False)):
            chain = _chain(longer, slot, stage)
            if chain:
                for node in reversed(chain[:-1]):
                    self._add(_stage_cause(node, added, effect))
                return (a, chain[-1]) if added else (chain[-1], b)
        self._add(
            Cause(
                "stage",
                "/".join(path),
                a.label,
                b.label,
                where=(a.label, b.label),
                effect=effect,
            )
        )
        return a, b

    def _add(self, cause: Cause) -> None:
        known = self.causes.get(cause.key)
        if known:
            where = tuple(dict.fromkeys((*known.where, *cause.where)))
            cause = replace(known, where=where, effect=known.effect or cause.effect)
        self.causes[cause.key] = cause


def _chain(node: Node, slot: str, stage: str) -> list[Node]:
    """From `node` along inputs named `slot` to the first node of `stage`; empty if there is none."""
    found = [node]
    while found[-1].artifact.stage != stage:
        below = found[-1].inputs.get(slot)
        if below is None:
            return []
        found.append(below)
    return found


def _stage_cause(node: Node, added: bool, effect: bool) -> Cause:
    before, after = (None, node.label) if added else (node.label, None)
    return Cause("stage", node.artifact.stage, before, after, node.artifact.name, (node.label,), effect)


def _nondeterminism(a: Node, b: Node) -> Cause:
    content = (a.artifact.content_digest, b.artifact.content_digest)
    detail = (
        "the same computation gave two results: its stage depends on something that its recipe does not hold"
    )
    return Cause("unknown", "result", *content, b.artifact.name, (b.label,), details=(detail,))


def _inputs_differ(a: Node, b: Node) -> bool:
    """Whether they were made from other computations; two models can share a report."""
    made_from = [{slot: node.artifact.fingerprint for slot, node in side.inputs.items()} for side in (a, b)]
    return made_from[0] != made_from[1]


def _consequence(a: Node, b: Node, path: tuple[str, ...]) -> Consequence:
    return Consequence(
        path="/".join(path),
        before=a.label,
        after=b.label,
        content_before=a.artifact.content_digest,
        content_after=b.artifact.content_digest,
        files_changed=tuple(sorted(_files_changed(a, b))),
        metrics=tuple(_metrics_changed(a, b)),
    )


def _files_changed(a: Node, b: Node) -> Iterator[str]:
    files = [
        {output.path: output.sha256 for output in node.manifest.outputs if not output.volatile}
        if node.manifest
        else {}
        for node in (a, b)
    ]
    for path in files[0].keys() | files[1].keys():
        if files[0].get(path) != files[1].get(path):
            yield path


def _metrics_changed(a: Node, b: Node) -> Iterator[MetricChange]:
    if a.manifest and b.manifest:
        for change in differences(a.manifest.metrics, b.manifest.metrics, depth=1):
            yield MetricChange(*change)
