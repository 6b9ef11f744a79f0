"""Why an artifact is computed or reused: what differs from what its asset partition was before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from codellm_dag.launch.identity import Identity, check_recipe, check_slots, identify, resolve_stage
from codellm_dag.recipes.base import Recipe
from codellm_dag.stages.registry import Stage
from codellm_dag.store import Artifact, Change, Decision, Hit, Manifest, Miss, Store, StoreError
from codellm_dag.store.records import now

_ABSENT = "–"
_LONGEST = 60


def decide(
    store: Store,
    stage: Stage | str,
    recipe: Recipe,
    inputs: Mapping[str, Artifact | None],
    *,
    asset: str | None = None,
    partition: str | None = None,
) -> Decision:
    """Say whether a request would be computed or reused, and why; runs and writes nothing.

    An input that is None is one that has to be computed first; then the decision has no fingerprint.
    Raises what `identify` raises.
    """
    stage = resolve_stage(stage)
    asset = asset or stage.name
    pending = sorted(slot for slot, artifact in inputs.items() if artifact is None)
    if pending:
        check_recipe(stage, recipe)
        check_slots(stage, inputs)
        reasons = [f"input {slot}: is computed first" for slot in pending]
        return _decision("computed", stage, asset, partition, "", reasons)
    identity = identify(stage, recipe, {slot: item for slot, item in inputs.items() if item is not None})
    found = store.lookup(stage.name, identity.fingerprint)
    return explain(store, identity, found, asset, partition)


def explain(
    store: Store, identity: Identity, found: Hit | Miss, asset: str, partition: str | None
) -> Decision:
    """The decision on a computation that was looked up."""
    decision = _explained(store, identity, found, asset, partition)
    return decision.model_copy(update={"inputs": _given(identity, found)})


def _given(identity: Identity, found: Hit | Miss) -> dict[str, Artifact]:
    """The inputs of the request, if its result was computed before, from others with the same contents."""
    if isinstance(found, Miss):
        return {}
    made_from = {slot: artifact.fingerprint for slot, artifact in found.manifest.inputs.items()}
    given = {slot: artifact.fingerprint for slot, artifact in identity.inputs.items()}
    return {} if given == made_from else dict(identity.inputs)


def _explained(
    store: Store, identity: Identity, found: Hit | Miss, asset: str, partition: str | None
) -> Decision:
    ref = store.refs.get(asset, partition)
    previous = ref.artifact if ref else None
    action = "reused" if isinstance(found, Hit) else "computed"
    if previous is not None and previous.fingerprint == identity.fingerprint:
        reason = "nothing changed" if isinstance(found, Hit) else found.reason
        return _decision(action, identity.stage, asset, partition, identity.fingerprint, [reason], previous)
    reasons, changes = _compare(store, identity, previous)
    if isinstance(found, Hit):
        differs = reasons if previous is not None else []
        reasons = [f"the same computation was done before, as {found.artifact.label}", *differs]
    elif found.damaged:
        reasons.append(found.reason)
    return _decision(
        action, identity.stage, asset, partition, identity.fingerprint, reasons, previous, changes
    )


def _compare(store: Store, identity: Identity, previous: Artifact | None) -> tuple[list[str], list[Change]]:
    if previous is None:
        return ["first time"], []
    try:
        before = store.manifest(previous)
    except StoreError:
        return ["what it was before is gone from the store"], []
    changes = list(differences(before, identity))
    return [change.text for change in changes], changes


def differences(before: Manifest, identity: Identity) -> Iterator[Change]:
    """What differs between a past computation and this one: stage, recipe, inputs, code, then the rest."""
    old, new = before.identity, identity.payload
    if old.get("stage") != new["stage"]:
        yield _change("stage", old.get("stage"), new["stage"])
    yield from _field_changes("recipe", old.get("recipe", {}), new["recipe"])
    yield from _input_changes(before, identity)
    yield from _code_changes(before.code, identity.code.modules)
    yield from _field_changes("package", old.get("packages", {}), new["packages"], separator=" ")
    if old.get("version") != new["version"]:
        yield _change("fingerprint version", old.get("version"), new["version"])


def _input_changes(before: Manifest, identity: Identity) -> Iterator[Change]:
    old, new = before.identity.get("inputs", {}), identity.payload["inputs"]
    for slot in sorted(old.keys() | new.keys()):
        if old.get(slot) == new.get(slot):
            continue
        what = "added" if slot not in old else "removed" if slot not in new else "content changed"
        field = f"input {slot}"
        yield Change(field=field, before=old.get(slot), after=new.get(slot), text=f"{field}: {what}")


def _code_changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for module in sorted(old.keys() | new.keys()):
        if old.get(module) == new.get(module):
            continue
        what = "added" if module not in old else "no longer used" if module not in new else "changed"
        yield Change(
            field=f"code {module}",
            before=old.get(module),
            after=new.get(module),
            text=f"code: {module} {what}",
        )


def _field_changes(prefix: str, old: Any, new: Any, separator: str = ".") -> Iterator[Change]:
    """Differences of two JSON values, down to the innermost field that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _field_changes(
                f"{prefix}{separator}{key}", old.get(key, _ABSENT), new.get(key, _ABSENT)
            )
    elif type(old) is not type(new) or old != new:
        yield _change(prefix, old, new)


def _change(field: str, before: Any, after: Any) -> Change:
    return Change(
        field=field, before=before, after=after, text=f"{field}: {_short(before)} → {_short(after)}"
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _decision(
    action: Any,
    stage: Stage,
    asset: str,
    partition: str | None,
    fingerprint: str,
    reasons: list[str],
    previous: Artifact | None = None,
    changes: list[Change] | None = None,
) -> Decision:
    return Decision(
        action=action,
        asset=asset,
        partition=partition,
        stage=stage.name,
        fingerprint=fingerprint,
        previous=previous.fingerprint if previous else None,
        reasons=reasons or ["nothing in the payload differs; the fingerprint's format changed"],
        changes=changes or [],
        at=now(),
    )
