"""Jobs, the schedule and the sensors.

A job here runs all partitions of its assets in one run, which Dagster allows only for assets without
partitions. So the jobs are made of the very same assets with their partitions definition taken off, in
definitions of their own; the code location shows the partitioned ones, for the UI and for backfills.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from assets.config import asset_recipe_default
from assets.materialize import TRIALS_TAG
from codellm_dag.corpora.sources import CorpusError, resolve
from codellm_dag.recipes.corpora import RawCorpusRecipe
from codellm_dag.recipes.frameworks import FrameworksRecipe
from codellm_dag.recipes.sft_sources import InstructionDataRecipe
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.stages.registry import STAGES
from codellm_dag.store import digest
from resources.runs import run_is_live

_CORPORA = dg.AssetSelection.groups("corpora")
_BENCHMARKS = dg.AssetSelection.groups("benchmarks")
_PRETRAINED = dg.AssetSelection.assets("pretrained_checkpoint")
_DATASETS = dg.AssetSelection.assets("instruction_data")
_INSTRUCTIONS = dg.AssetSelection.groups("instructions")
_EVALUATION = dg.AssetSelection.groups("evals")
_EXPERIMENTS = dg.AssetSelection.groups("experiments")


def selections() -> Mapping[str, tuple[dg.AssetSelection, str]]:
    """Name → what the job materializes, and its description.

    No job may have an asset's name: Dagster's server would refuse the whole code location.
    """
    passed_by = _passed_by()
    life_cycle = dg.AssetSelection.all() - _INSTRUCTIONS - _EXPERIMENTS - passed_by
    trained_after = dg.AssetSelection.groups("checkpoints") | dg.AssetSelection.groups("policies")
    return {
        "lifecycle": (life_cycle, "From raw sources to the leaderboard."),
        "corpora": (_CORPORA | _BENCHMARKS, "Read, clean and mix the sources of every language."),
        "pretrain": (
            dg.AssetSelection.groups("tokens") | _PRETRAINED,
            "Tokenizer, shards and the pretrained model, from the mixture there is.",
        ),
        "post_train": (
            trained_after - _PRETRAINED - passed_by,
            "Fine-tune and improve by RL, from the pretrained model there is.",
        ),
        "evaluate": (_EVALUATION, "Evaluate every model there is, trials too, on every benchmark."),
        "instructions": (
            _INSTRUCTIONS - _DATASETS,
            "Chat examples from the clean corpus there is and from outside, for sft_data to mix in.",
        ),
        "sft_datasets": (
            (_DATASETS | dg.AssetSelection.assets("base_checkpoint", "sft_checkpoint") | _EVALUATION)
            - passed_by,
            "One recipe fine-tuned on each dataset of instruction_data, a trial each, and the scores.",
        ),
        "scaling_laws": (
            dg.AssetSelection.assets("scaling_ladder", "scaling_report"),
            "Small runs of every language on a grid of sizes and tokens, and the laws fitted to them.",
        ),
        "training_studies": (
            dg.AssetSelection.assets("critical_batch_size", "batch_warmup", "mixture_trials", "model_growth"),
            "How large a batch may be, what one that grows saves, what a planned mixture of languages gains, "
            "and what growing a small model saves.",
        ),
        "framework_comparison": (
            dg.AssetSelection.assets("framework_checkpoint", "sft_frameworks", *_compared_data()),
            "One fine-tuning with every framework that the recipe lists, and how they compare.",
        ),
        "retrain": (
            life_cycle,
            "The life cycle again; what did not change is reused. Run by the schedule and by the sensor.",
        ),
    }


def _passed_by() -> dg.AssetSelection:
    """Assets that the preset's life cycle passes by: fine-tuning starts with our model or an outside one."""
    recipe = asset_recipe_default(STAGES["sft_checkpoint"])
    assert isinstance(recipe, SftRecipe)
    if recipe.base == "base_checkpoint":
        return dg.AssetSelection.groups("tokens") | _PRETRAINED
    return dg.AssetSelection.assets("base_checkpoint")


def _compared_data() -> list[str]:
    """The datasets' asset where the preset's comparison of frameworks learns from one of them."""
    recipe = asset_recipe_default(STAGES["framework_checkpoint"])
    assert isinstance(recipe, FrameworksRecipe)
    return ["instruction_data"] if recipe.training.data else []


def _dataset_trials() -> dict[str, str]:
    """The tag that names a trial for every dataset of the preset."""
    recipe = asset_recipe_default(STAGES["instruction_data"])
    assert isinstance(recipe, InstructionDataRecipe)
    return {TRIALS_TAG: json.dumps([f"data={name}" for name in recipe.names()])}


def build_jobs(
    assets: Sequence[dg.AssetsDefinition],
    checks: Sequence[dg.AssetChecksDefinition],
    resources: Mapping[str, Any],
) -> list[dg.JobDefinition]:
    """The jobs of `selections` over `assets` without their partitions, each in one process."""
    wanted = selections()
    unresolved = [
        dg.define_asset_job(
            name,
            selection,
            description=description,
            executor_def=dg.in_process_executor,
            tags={"codellm_dag/job": name, **(_dataset_trials() if name == "sft_datasets" else {})},
        )
        for name, (selection, description) in wanted.items()
    ]
    private = dg.Definitions(
        assets=without_partitions(assets), asset_checks=checks, jobs=unresolved, resources=resources
    )
    return [private.resolve_job_def(name) for name in wanted]


def without_partitions(assets: Sequence[dg.AssetsDefinition]) -> Sequence[dg.AssetsDefinition]:
    """The same assets, to be run with all their partitions in one run."""
    return dg.map_asset_specs(lambda spec: spec.replace_attributes(partitions_def=None), assets)


def weekly_retrain(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """Mondays at 03:00 UTC, stopped until someone turns it on."""
    return dg.ScheduleDefinition(
        name="weekly_retrain",
        job=job,
        cron_schedule="0 3 * * 1",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Runs retrain every Monday at 03:00 UTC. Stopped until turned on.",
    )


def corpus_growth(job: dg.JobDefinition) -> dg.SensorDefinition:
    """Fires `job` when a source of the corpora changed; the first look only remembers what is there."""

    @dg.sensor(
        name="corpus_growth",
        job=job,
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Runs retrain when a file of a source was added, changed or removed. Stopped until "
        "turned on.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        found = digest(source_digests())
        if context.cursor == found:
            return dg.SkipReason("no source changed")
        if context.cursor is None:
            seen = "remembered the sources as they are now; the next change runs retrain"
            return dg.SensorResult(skip_reason=seen, cursor=found)
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=found)], cursor=found)

    return sensor


def reaper() -> dg.SensorDefinition:
    """Every five minutes: removes the pods that no live run owns (see `launch.kubernetes.reaper`)."""

    @dg.sensor(
        name="reaper",
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"store", "launcher"},
        description="Removes pods on Kubernetes that no live run owns, as `codellm-dag reap --delete` does.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from codellm_dag.launch.kubernetes.reaper import find_leftovers, remove

        launcher, store = context.resources.launcher, context.resources.store.open()
        api, removed = launcher.cluster(), []
        for namespace in launcher.namespaces():
            for leftover in find_leftovers(api, store, namespace, run_is_live(context.instance)):
                remove(api, store, leftover)
                removed.append(f"{leftover.name}: {leftover.reason}")
                context.log.info(f"removed {leftover.name}: {leftover.reason}")
        return dg.SkipReason("; ".join(removed) or "nothing is left over")

    return sensor


def source_digests() -> dict[str, list[dict[str, Any]]]:
    """The sources of each language, resolved to versions and digests. A language without any has none."""
    recipe = asset_recipe_default(STAGES["raw_corpus"])
    assert isinstance(recipe, RawCorpusRecipe)
    found = {}
    for language in recipe.languages():
        try:
            found[language] = resolve(recipe, language).model_dump(mode="json")["sources"]
        except CorpusError:
            found[language] = []
    return found
