"""Making a number again: its whole ancestry, rebuilt in an empty store from what the manifests hold.

Every artifact is computed by its stage as it is here, with the recipe its manifest recorded, on the inputs
that were just rebuilt, with as many threads, workers and rows of a forward pass as the first time. Then
contents are compared.
Code, packages and sources that are not those of the first time are named before anything runs.

Not covered: another machine's last bits. A different processor or thread count can round a float sum
otherwise; `machine_notes` says so beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from codellm_dag.launch import (
    InvalidRequestError,
    Launcher,
    LocalLauncher,
    StageEvent,
    differences,
    identify,
    materialize,
)
from codellm_dag.lineage.errors import DifferentSoftwareError, LineageError
from codellm_dag.lineage.graph import Node, nodes
from codellm_dag.lineage.names import place
from codellm_dag.recipes import InvalidRecipeError, Recipe, Runtime
from codellm_dag.stages import registry
from codellm_dag.stages.registry import Stage
from codellm_dag.store import Artifact, Manifest, Store, StoreError


@dataclass(frozen=True)
class Step:
    """One artifact that was made again."""

    label: str
    stage: str
    expected: str
    """Content digest of the first time."""
    found: str
    seconds: float
    files_changed: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether the same bytes came out."""
        return self.expected == self.found


@dataclass
class Reproduction:
    """What came of it: every step, in the order they ran."""

    store_url: str
    steps: list[Step] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    """Software differences that were allowed."""

    @property
    def equal(self) -> bool:
        """Whether the number's own artifact, the last step, has the same content."""
        return bool(self.steps) and self.steps[-1].equal

    @property
    def first_difference(self) -> Step | None:
        """The first artifact that came out differently."""
        return next((step for step in self.steps if not step.equal), None)


def reproduce(
    root: Node,
    target: Store,
    *,
    launcher: Launcher | None = None,
    stages: Mapping[str, Stage] | None = None,
    allow_different: bool = False,
    on_event: Callable[[StageEvent], None] | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Reproduction:
    """Rebuild `root` and all below it in the empty store `target`, inputs first, and compare contents.

    Goes on after the first difference, so that the number itself is compared too. Raises LineageError if a
    manifest is missing or `target` is not empty, DifferentSoftwareError unless allowed, and what
    `launch.materialize` raises.
    """
    stages = registry.STAGES if stages is None else stages
    software = check(root, target, stages)
    if software and not allow_different:
        raise _refusal(root, software)
    result = Reproduction(target.url, differences=software)
    made: dict[str, Artifact] = {}
    for node in nodes(root):
        manifest = _manifest(node)
        start = time.monotonic()
        outcome = materialize(
            target,
            stages[node.artifact.stage],
            _recipe(stages, manifest),
            {slot: made[below.artifact.fingerprint] for slot, below in node.inputs.items()},
            asset=node.artifact.name,
            partition=node.artifact.partition,
            launcher=launcher or LocalLauncher(),
            runtime=_runtime(manifest),
            on_event=on_event,
        )
        made[node.artifact.fingerprint] = outcome.artifact
        step = _step(node, outcome.manifest, time.monotonic() - start)
        result.steps.append(step)
        if on_step:
            on_step(step)
    return result


def check(root: Node, target: Store, stages: Mapping[str, Stage]) -> list[str]:
    """What of code, packages and sources is not as it was, one line each; empty if all is.

    Raises LineageError if the number cannot be rebuilt at all.
    """
    if target.backend.children("artifacts"):
        raise LineageError(
            f"{place(target)} is not empty; name another place with --into, so that nothing is reused"
        )
    lines: dict[str, list[str]] = {}
    for node in nodes(root):
        for line in _changes(node, stages):
            lines.setdefault(line, []).append(node.label)
    return [f"{line} ({_some(where)})" for line, where in lines.items()]


def _some(names: list[str]) -> str:
    return ", ".join([*names[:3], *(["…"] if len(names) > 3 else [])])


def machine_notes(root: Node, here: Mapping[str, object]) -> list[str]:
    """Differences between this machine and those that made the number, one line each; they stop nothing."""
    found: dict[str, None] = {}
    for node in nodes(root):
        for name, value in here.items():
            then = getattr(_manifest(node).environment, name)
            if then and then != value:
                found[f"{name}: {then} then, {value} here"] = None
    return list(found)


def _changes(node: Node, stages: Mapping[str, Stage]) -> list[str]:
    """How the computation of `node` would differ if it were asked for now, on the same inputs."""
    manifest = _manifest(node)
    if manifest.stage not in stages:
        return [f"stage {manifest.stage} is not in this code any more"]
    try:
        identity = identify(stages[manifest.stage], _recipe(stages, manifest), manifest.inputs)
    except (InvalidRequestError, InvalidRecipeError, StoreError) as error:
        return [str(error)]
    if identity.fingerprint == manifest.fingerprint:
        return []
    changes = differences(manifest, identity)
    return [change.text for change in changes if not change.field.startswith("input ")]


def _manifest(node: Node) -> Manifest:
    if node.manifest is None:
        raise LineageError(
            f"the manifest of {node.label} ({node.artifact.fingerprint[:12]}) is no longer in the store, so "
            "not all recipes of the number are known and it cannot be made again"
        )
    return node.manifest


def _recipe(stages: Mapping[str, Stage], manifest: Manifest) -> Recipe:
    return stages[manifest.stage].recipe_class().parse(manifest.identity["recipe"])


def _runtime(manifest: Manifest) -> Runtime:
    there = manifest.environment
    given = {
        "threads": there.threads,
        "workers": there.workers,
        "micro_rows": there.micro_rows,
    }
    return Runtime.model_validate({name: value for name, value in given.items() if value})


def _step(node: Node, found: Manifest, seconds: float) -> Step:
    before = {output.path: output.sha256 for output in _manifest(node).outputs if not output.volatile}
    after = {output.path: output.sha256 for output in found.outputs if not output.volatile}
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    return Step(
        node.label,
        node.artifact.stage,
        node.artifact.content_digest,
        found.content_digest,
        seconds,
        tuple(changed),
    )


def _refusal(root: Node, lines: list[str]) -> DifferentSoftwareError:
    environment = _manifest(root).environment
    commit = environment.git_commit
    advice = "or go on with --allow-different"
    if commit and not environment.git_dirty:
        advice = f"check out commit {commit[:12]}, which made it, {advice}"
    elif commit:
        advice = f"it was made at commit {commit[:12]} with uncommitted changes; restore them, {advice}"
    return DifferentSoftwareError(f"what made this number is not what is installed here; {advice}", lines)
