"""Why an asset partition was computed or reused the last time, and what would happen now.

"Now" takes the code, packages and sources as they are, the recipes that `recipe_of` gives, and for the inputs
whatever their own assets would give now. An input that would have to be computed first leaves it open whether
what is below must run: it is reused if the input comes out with the same content. The slots are those of the
last time: a language or model that was added since is not foreseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from codellm_dag.launch import decide
from codellm_dag.lineage.errors import LineageError
from codellm_dag.lineage.graph import label, read_manifest
from codellm_dag.recipes import Recipe
from codellm_dag.stages import registry
from codellm_dag.stages.registry import Stage
from codellm_dag.store import Artifact, Decision, Manifest, Ref, Store

_FIRST = "is computed first"

RecipeOf = Callable[[Ref, Manifest], Recipe]
"""The recipe an asset partition would have now."""


@dataclass(frozen=True)
class Explanation:
    """The last decision on an asset partition and the one that would be taken now."""

    label: str
    artifact: Artifact
    computed_at: datetime
    last: Decision | None
    """None if no decision was kept, e.g. in a store that was copied in part."""
    requests: int
    """How often it was asked for so far."""
    now: Decision
    upstream: tuple[Decision, ...] = field(default=())
    """What would happen to everything it is made from, inputs first."""

    @property
    def open(self) -> bool:
        """Whether only inputs that must be computed first can tell: with equal contents it is reused."""
        return not self.now.fingerprint and all(reason.endswith(_FIRST) for reason in self.now.reasons)


def why(
    store: Store, ref: Ref, recipe_of: RecipeOf | None = None, stages: Mapping[str, Stage] | None = None
) -> Explanation:
    """Explain one asset partition; `recipe_of` is by default the recipe of the last time.

    Raises LineageError if its manifest is gone, and what `launch.decide` raises.
    """
    manifest = read_manifest(store, ref.artifact)
    if manifest is None:
        raise LineageError(
            f"{label(ref.asset, ref.partition)} points at {ref.artifact.fingerprint[:12]}, whose manifest is "
            "gone from the store; run it again"
        )
    table = registry.STAGES if stages is None else stages
    foreseen = _Foreseen(store, recipe_of or _last_recipe(table), table)
    now = foreseen.decision(ref)
    decisions = store.decisions.of(ref.asset, ref.partition)
    return Explanation(
        label=label(ref.asset, ref.partition),
        artifact=ref.artifact,
        computed_at=manifest.created,
        last=decisions[-1] if decisions else None,
        requests=len(decisions),
        now=now,
        upstream=tuple(list(foreseen.decisions.values())[:-1]),
    )


class _Foreseen:
    """Decides on an asset partition after deciding on all it is made from."""

    def __init__(self, store: Store, recipe_of: RecipeOf, stages: Mapping[str, Stage]) -> None:
        self._store = store
        self._recipe_of = recipe_of
        self._stages = stages
        self._refs = {(ref.asset, ref.partition): ref for ref in store.refs.all()}
        self.decisions: dict[tuple[str, str | None], Decision] = {}

    def decision(self, ref: Ref) -> Decision:
        """What would happen to `ref` now."""
        key = (ref.asset, ref.partition)
        if key not in self.decisions:
            manifest = read_manifest(self._store, ref.artifact)
            if manifest is None:
                raise LineageError(f"the manifest of {label(*key)} is gone from the store; run it again")
            if manifest.stage not in self._stages:
                raise LineageError(f"stage {manifest.stage} is not in this code any more")
            self.decisions[key] = self._decide(ref, manifest)
        return self.decisions[key]

    def _decide(self, ref: Ref, manifest: Manifest) -> Decision:
        inputs = {slot: self._input(artifact) for slot, artifact in manifest.inputs.items()}
        pending = [slot for slot, artifact in inputs.items() if artifact is None]
        # With the last content for an input that is still to be computed, what is left is its own change.
        known = {slot: artifact or manifest.inputs[slot] for slot, artifact in inputs.items()}
        stage = self._stages[manifest.stage]
        recipe = self._recipe_of(ref, manifest)
        own = decide(self._store, stage, recipe, known, asset=ref.asset, partition=ref.partition)
        if not pending:
            return own
        reasons = [f"input {slot}: {_FIRST}" for slot in pending]
        changes = own.reasons if own.action == "computed" else []
        update = {"action": "computed", "fingerprint": "", "reasons": [*changes, *reasons]}
        return own.model_copy(update=update)

    def _input(self, artifact: Artifact) -> Artifact | None:
        """What the input's asset would give now; None if it would be computed."""
        ref = self._refs.get((artifact.name, artifact.partition))
        if ref is None:  # its name is gone, the artifact itself may still be there
            return artifact
        decision = self.decision(ref)
        if decision.action == "computed":
            return None
        return self._store.artifact(decision.fingerprint)


def _last_recipe(stages: Mapping[str, Stage]) -> RecipeOf:
    def recipe_of(ref: Ref, manifest: Manifest) -> Recipe:
        del ref
        return stages[manifest.stage].recipe_class().parse(manifest.identity["recipe"])

    return recipe_of
