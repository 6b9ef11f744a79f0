"""Runs an asset's stage for each of its partitions and tells Dagster of every artifact.

Dagster refuses to run a partitioned asset without a partition, so a job that spans partitions is made of
the same assets without their partitions definition (`codellm_dag/automation.py`). In such a run the body here
goes through all keys and logs one materialization per partition, with the content digest as its data
version, just as single-partition runs do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from assets.config import check_run_config
from assets.metadata import artifact_metadata, summary_metadata
from assets.partitions import BASE_TRIAL, TRIALS, model_key, register_models, register_trials
from codellm_dag.corpora.errors import CorpusError, MissingSource
from codellm_dag.launch import InvalidRequestError, Outcome, StageEvent, StageFailedError, materialize
from codellm_dag.recipes import InvalidRecipeError, Recipe
from codellm_dag.stages.registry import Stage
from codellm_dag.store import Artifact, Store, StoreError, digest
from resources.io_manager import Artifacts
from resources.keys import dagster_key, store_key
from resources.observers import notify
from resources.pipes import pipes_bridge

Inputs = Mapping[str, Artifact]
"""A stage's inputs by slot; the slot ``name/*`` has names ``name/key``."""
Requests = Mapping[str, Inputs]
"""The inputs of every partition, by the store's key of it."""

_LOG_SECONDS = 15.0
_EXPECTED = (InvalidRecipeError, InvalidRequestError, CorpusError, StoreError)


@dataclass(frozen=True)
class Plan:
    """An asset as `run_stage` needs it; the fields are `stage_asset`'s."""

    stage: Stage
    body: Callable[..., Inputs | Requests]
    partitions: dg.PartitionsDefinition | None
    prepare: Callable[[Any, str], Recipe]
    model: str | None
    show: Callable[[Path], Mapping[str, Any]] | None
    takes_context: bool


def run_stage(
    context: dg.AssetExecutionContext, plan: Plan, inputs: Mapping[str, Artifact | Artifacts]
) -> dg.MaterializeResult:
    """Materialize the partitions of this run (all, if it has none). Raises Failure with one sentence."""
    register_trials(context.instance, [BASE_TRIAL])  # so that the UI offers it before the first run
    try:
        check_run_config(context.run.run_config)
        requests = _requests(context, plan, inputs)
        recipe = plan.stage.recipe_class().parse(context.op_execution_context.op_config)
        recipes, left_out = _recipes(context, plan, recipe, requests)
        outcomes = {
            key: _materialize(context, plan, key, recipe, requests[key or ""])
            for key, recipe in recipes.items()
        }
    except StageFailedError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"label": error.label, "attempt": error.attempt},
            allow_retries=error.label == "infra",
        ) from None
    except _EXPECTED as error:
        raise dg.Failure(description=f"{plan.stage.name}: {error}", allow_retries=False) from None
    _register(context, plan, outcomes)
    return _result(context, plan, outcomes, left_out)


def _requests(
    context: dg.AssetExecutionContext, plan: Plan, inputs: Mapping[str, Artifact | Artifacts]
) -> Requests:
    """The requests of this run's partitions by the store's key; the empty key if the asset has none."""
    given = {"context": context, **inputs} if plan.takes_context else inputs
    returned: Any = plan.body(**given)
    if plan.partitions is None:
        return {"": returned}
    if context.has_partition_key_range and not context.has_partition_key:
        raise InvalidRequestError("a run takes one partition or all of them, not a range; launch a backfill")
    chosen = [store_key(context.partition_key)] if context.has_partition_key else None
    if plan.partitions is TRIALS:
        return {trial: dict(returned) for trial in chosen or [BASE_TRIAL]}
    missing = [key for key in chosen or () if key not in returned]
    if missing:
        raise InvalidRequestError(
            f"partition {missing[0]!r} cannot be made now, its recipe or its inputs are not there; "
            f"possible at present: {', '.join(returned) or 'none'}"
        )
    return {key: returned[key] for key in (returned if chosen is None else chosen)}


def _recipes(
    context: dg.AssetExecutionContext, plan: Plan, recipe: Recipe, keys: Iterable[str]
) -> tuple[dict[str, Recipe], dict[str, str]]:
    """The recipe of each partition, all checked before the first runs; and why partitions are left out."""
    recipes, left_out = {}, {}
    for key in keys:
        try:
            recipes[key] = plan.prepare(recipe, key)
        except MissingSource as error:
            if context.has_partition_key:
                raise
            left_out[key] = str(error)
            context.log.warning(f"{plan.stage.name}: {key} is left out: {error}")
    if left_out and not recipes:
        raise InvalidRequestError(f"every partition is left out: {'; '.join(left_out.values())}")
    return recipes, left_out


def _materialize(
    context: dg.AssetExecutionContext, plan: Plan, key: str, recipe: Recipe, inputs: Inputs
) -> Outcome:
    launcher = context.resources.launcher
    store: Store = context.resources.store.open()
    outcome = materialize(
        store,
        plan.stage,
        recipe,
        inputs,
        partition=key or None,
        trial=key if plan.partitions is TRIALS else None,
        launcher=launcher.open(),
        runtime=launcher.runtime(),
        on_event=_Listener(context),
        dagster=pipes_bridge(context),
    )
    if plan.partitions is not None and not context.has_partition_key:
        context.log_event(
            dg.AssetMaterialization(
                asset_key=context.asset_key,
                partition=dagster_key(plan.partitions, key),
                metadata=_metadata(plan, store, outcome),
                tags=_tags(context, outcome),
            )
        )
    return outcome


def _register(context: dg.AssetExecutionContext, plan: Plan, keys: Iterable[str]) -> None:
    """Make the models that were made known to Dagster, to be evaluated from the UI."""
    if plan.model is None:
        return
    trials = list(keys) if plan.partitions is TRIALS else [BASE_TRIAL]
    register_trials(context.instance, trials)
    register_models(context.instance, [model_key(plan.model, trial) for trial in trials])


def _result(
    context: dg.AssetExecutionContext,
    plan: Plan,
    outcomes: Mapping[str, Outcome],
    left_out: Mapping[str, str],
) -> dg.MaterializeResult:
    """The materialization of the whole asset (or of the run's one partition)."""
    store: Store = context.resources.store.open()
    artifacts = {key: outcome.artifact for key, outcome in outcomes.items()}
    if plan.partitions is None:
        return _one(plan, store, outcomes[""], artifacts[""])
    if context.has_partition_key:
        (outcome,) = outcomes.values()
        return _one(plan, store, outcome, artifacts)
    shown = summary_metadata({key: (outcome.manifest, outcome.decision) for key, outcome in outcomes.items()})
    if len(outcomes) == 1:
        shown |= _metadata(plan, store, *outcomes.values())
    if left_out:
        shown["left out"] = dg.MetadataValue.md(
            "\n".join(f"- **{key}**: {reason}" for key, reason in left_out.items())
        )
    contents = {key: artifact.content_digest for key, artifact in artifacts.items()}
    return dg.MaterializeResult(
        value=artifacts, metadata=shown, data_version=dg.DataVersion(digest(contents))
    )


def _one(plan: Plan, store: Store, outcome: Outcome, value: Artifact | Artifacts) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        value=value,
        metadata=_metadata(plan, store, outcome),
        data_version=dg.DataVersion(outcome.artifact.content_digest),
    )


def _metadata(plan: Plan, store: Store, outcome: Outcome) -> dict[str, Any]:
    more = plan.show(store.local_path(outcome.artifact)) if plan.show else {}
    return {**more, **artifact_metadata(outcome.manifest, outcome.decision, store.url)}


def _tags(context: dg.AssetExecutionContext, outcome: Outcome) -> dict[str, str]:
    """The provenance that Dagster itself would put on a single-partition materialization."""
    version = context.assets_def.code_versions_by_key.get(context.asset_key)
    tags = {
        "dagster/data_version": outcome.artifact.content_digest,
        "dagster/data_version_is_user_provided": "true",
    }
    return tags | ({"dagster/code_version": version} if version else {})


class _Listener:
    """Passes a stage's events to observers, and now and then a line of progress to Dagster's log."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._log = context.log
        self._said_at = time.monotonic()

    def __call__(self, event: StageEvent) -> None:
        notify(event)
        if event.type in ("waiting", "started", "reused", "retrying", "finished"):
            self._log.info(f"{event.title}: {event.type}: {event.message}")
        elif event.type == "progress" and time.monotonic() - self._said_at >= _LOG_SECONDS:
            self._said_at = time.monotonic()
            self._log.info(f"{event.title}: {_progress(event)}")


def _progress(event: StageEvent) -> str:
    text = f"{event.done:,.10g} of {event.total:,.10g} {event.unit}".rstrip()
    if event.rate and event.total > event.done:
        text += f", {event.rate:,.3g} a second, {(event.total - event.done) / event.rate:,.0f} s left"
    return f"{text}, {event.note}" if event.note else text
