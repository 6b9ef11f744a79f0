"""Runs an asset's stage for each of its partitions.

Dagster refuses to run a partitioned asset without a partition, so a job that spans partitions is made of
the same assets without their partitions definition (`codellm_dag/automation.py`). In such a run the body here
goes through all keys and logs one materialization per partition, with the content digest as its data
version, just as single-partition runs do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from assets.config import check_run_config
from assets.events import Listener, log_partition, materialization, provenance_tags
from assets.partitions import (
    BASE_TRIAL,
    DATASETS,
    TRIALS,
    model_key,
    register_datasets,
    register_models,
    register_trials,
)
from assets.plan import Inputs, Plan, Requests
from codellm_dag.corpora.errors import CorpusError, MissingSource
from codellm_dag.launch import InvalidRequestError, Outcome, StageFailedError, materialize
from codellm_dag.recipes import InvalidRecipeError, Recipe
from codellm_dag.store import Artifact, StoreError
from resources.io_manager import Artifacts
from resources.keys import store_key
from resources.pipes import pipes_bridge

TRIALS_TAG = "codellm_dag/trials"
"""A run's tag with the trials that a run of all partitions makes."""
_EXPECTED = (InvalidRecipeError, InvalidRequestError, CorpusError, StoreError)


def run_stage(
    context: dg.AssetExecutionContext, plan: Plan, inputs: Mapping[str, Artifact | Artifacts | None]
) -> dg.MaterializeResult:
    """Materialize the partitions of this run (all, if it has none). Raises Failure with one sentence."""
    try:
        check_run_config(context.run.run_config)
        recipe = plan.stage.recipe_class().parse(context.op_execution_context.op_config)
        requests = _requests(context, plan, recipe, inputs)
        recipes, left_out = _recipes(context, plan, recipe, requests)
        outcomes = _outcomes(context, plan, recipes, requests, inputs)
    except StageFailedError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"label": error.label, "attempt": error.attempt},
            allow_retries=error.label == "infra",
        ) from None
    except _EXPECTED as error:
        raise dg.Failure(description=f"{plan.stage.name}: {error}", allow_retries=False) from None
    _register(context, plan, outcomes)
    return materialization(context, plan, outcomes, left_out)


def _requests(
    context: dg.AssetExecutionContext,
    plan: Plan,
    recipe: Recipe,
    inputs: Mapping[str, Artifact | Artifacts | None],
) -> Requests:
    """The requests of this run's partitions by the store's key; the empty key if the asset has none."""
    given: dict[str, Any] = {"context": context, **inputs} if plan.takes_context else dict(inputs)
    if context.has_partition_key_range and not context.has_partition_key:
        raise InvalidRequestError("a run takes one partition or all of them, not a range; launch a backfill")
    chosen = [store_key(context.partition_key)] if context.has_partition_key else None
    if plan.partitions is TRIALS:
        trials = chosen or _trials_of(context)
        return {trial: dict(_asked(plan, given, plan.prepare(recipe, trial))) for trial in trials}
    returned = _asked(plan, given, recipe)
    if plan.partitions is None:
        return {"": returned}
    missing = [key for key in chosen or () if key not in returned]
    if missing:
        raise InvalidRequestError(
            f"partition {missing[0]!r} cannot be made now, its recipe or its inputs are not there; "
            f"possible at present: {', '.join(returned) or 'none'}"
        )
    return {key: returned[key] for key in (returned if chosen is None else chosen)}


def _trials_of(context: dg.AssetExecutionContext) -> list[str]:
    """The trials of a run of all: those of the tag `TRIALS_TAG`, a JSON list; without one the base alone."""
    text = context.run.tags.get(TRIALS_TAG, "[]")
    try:
        trials = json.loads(text)
    except ValueError:
        trials = None
    if not isinstance(trials, list) or not all(isinstance(trial, str) for trial in trials):
        raise InvalidRequestError(
            f'tag {TRIALS_TAG} = {text!r}: allowed: a JSON list of trials, such as ["base", "epochs=2"]'
        )
    return list(dict.fromkeys(trials)) or [BASE_TRIAL]


def _asked(plan: Plan, given: Mapping[str, Any], recipe: Recipe) -> Any:
    """What the asset's function says the stage is given."""
    return plan.body(**given, **({"recipe": recipe} if plan.takes_recipe else {}))


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


def _outcomes(
    context: dg.AssetExecutionContext,
    plan: Plan,
    recipes: Mapping[str, Recipe],
    requests: Requests,
    upstream: Iterable[str],
) -> dict[str, Outcome]:
    """Get the artifacts, one after the other; in a run of all partitions, log each as it comes."""
    spans = plan.partitions is not None and not context.has_partition_key
    provenance = provenance_tags(context, upstream) if spans else {}
    outcomes = {}
    for key, recipe in recipes.items():
        outcomes[key] = _outcome(context, plan, key, recipe, requests[key])
        if spans:
            log_partition(context, plan, key, outcomes[key], provenance)
    return outcomes


def _outcome(
    context: dg.AssetExecutionContext, plan: Plan, key: str, recipe: Recipe, inputs: Inputs
) -> Outcome:
    launcher = context.resources.launcher
    return materialize(
        context.resources.store.open(),
        plan.stage,
        recipe,
        inputs,
        partition=key or None,
        trial=key if plan.partitions is TRIALS else None,
        launcher=launcher.open(context),
        runtime=launcher.runtime(plan.stage.name),
        on_event=Listener(context),
        dagster=pipes_bridge(context),
    )


def _register(context: dg.AssetExecutionContext, plan: Plan, keys: Iterable[str]) -> None:
    """Make the models that were made known to Dagster, to be evaluated from the UI, and the base trial; or
    datasets, to be learnt from."""
    if plan.partitions is DATASETS:
        register_datasets(context.instance, keys)
    if plan.model is None:
        return
    trials = list(keys) if plan.partitions is TRIALS else [BASE_TRIAL]
    register_trials(context.instance, [BASE_TRIAL, *trials])
    register_models(context.instance, [model_key(plan.model, trial) for trial in trials])
