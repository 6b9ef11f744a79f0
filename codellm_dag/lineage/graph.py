"""An artifact and everything it was made from, read from the manifests.

The graph follows the fingerprints that each manifest recorded when it was computed, so it tells what was read
then, whatever the assets' names point at today. A manifest that has been deleted is kept as a node without
one. Not covered: what the nodes mean for a score (`scores.py`), and drawing them (`codellm_dag/cli`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from codellm_dag.store import Artifact, Manifest, Store, StoreError


@dataclass(frozen=True, eq=False)
class Node:
    """An artifact, its manifest (None if it is no longer in the store) and its inputs by slot."""

    artifact: Artifact
    manifest: Manifest | None
    inputs: Mapping[str, Node]

    @property
    def label(self) -> str:
        """``asset`` or ``asset[partition]``."""
        return label(self.artifact.name, self.artifact.partition)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe that was hashed; empty if the manifest is gone."""
        return self.manifest.identity.get("recipe", {}) if self.manifest else {}


def label(asset: str, partition: str | None) -> str:
    """How an asset partition is written everywhere a person reads it: ``clean_corpus[python]``."""
    return asset if partition is None else f"{asset}[{partition}]"


def ancestry(store: Store, artifact: Artifact, known: dict[str, Node] | None = None) -> Node:
    """The node of `artifact`, with all it was made from below it; an artifact used twice is one node.

    `known` holds nodes by fingerprint that were read before, and those read now.
    """
    known = {} if known is None else known
    found = known.get(artifact.fingerprint)
    if found is None:
        manifest = read_manifest(store, artifact)
        inputs = manifest.inputs if manifest else {}
        below = {slot: ancestry(store, inputs[slot], known) for slot in sorted(inputs)}
        found = known[artifact.fingerprint] = Node(artifact, manifest, below)
    return found


def read_manifest(store: Store, artifact: Artifact) -> Manifest | None:
    """The artifact's manifest, or None if the store no longer has one that can be read."""
    try:
        return store.manifest(artifact)
    except StoreError:
        return None


def nodes(root: Node) -> list[Node]:
    """Every node once, inputs before what was made from them."""
    order: dict[str, Node] = {}
    _visit(root, order)
    return list(order.values())


def _visit(node: Node, order: dict[str, Node]) -> None:
    if node.artifact.fingerprint in order:
        return
    for below in node.inputs.values():
        _visit(below, order)
    order[node.artifact.fingerprint] = node


def walk(root: Node) -> Iterator[tuple[tuple[str, ...], Node, bool]]:
    """Depth first from the root: the slots that lead to a node, the node, and whether it is its first time.

    What lies below a node is walked the first time only.
    """
    seen: set[str] = set()

    def step(path: tuple[str, ...], node: Node) -> Iterator[tuple[tuple[str, ...], Node, bool]]:
        first = node.artifact.fingerprint not in seen
        seen.add(node.artifact.fingerprint)
        yield path, node, first
        if first:
            for slot, below in node.inputs.items():
                yield from step((*path, slot), below)

    return step((), root)
