"""Asset checks: faults of data or training that must not travel on. A failed blocking check stops the run.

Each looks at the artifacts of the run's partition, or in a run without partitions at all of them. What a
stage itself refuses (a reference solution that fails, a benchmark that is not given) fails the stage instead.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from assets.config import config_schema
from codellm_dag.corpora.bounds import implausible_removals, read_steps
from codellm_dag.evaluation.scores import Score, read_scores
from codellm_dag.recipes.removal_bounds import ExampleBounds, RemovalBounds
from codellm_dag.store import Artifact, Store
from resources.io_manager import Artifacts
from resources.keys import store_key

_MOST_ERRORS = 0.05  # samples without a verdict, as a share of those with one
_EDGE = 0.1  # share of a loss curve that counts as its beginning, and as its end


@dg.asset_check(
    asset="clean_corpus",
    blocking=True,
    config_schema=config_schema(RemovalBounds()),
    required_resource_keys={"store"},
)
def removal_within_bounds(
    context: dg.AssetCheckExecutionContext, clean_corpus: Artifacts
) -> dg.AssetCheckResult:
    """No cleaning step removes an implausible share of a source's documents or bytes."""
    store: Store = context.resources.store.open()
    bounds = RemovalBounds.parse(context.op_execution_context.op_config)
    languages = _of_this_run(context, clean_corpus)
    problems = [
        f"{language}: {removal}"
        for language, artifact in languages.items()
        for removal in implausible_removals(read_steps(store.local_path(artifact) / "steps.json"), bounds)
    ]
    return _result(problems, f"{len(languages)} languages")


def _examples_within_bounds(asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name="removal_within_bounds",
        description="No step removes an implausible share of a source's chat examples or their bytes.",
        blocking=True,
        config_schema=config_schema(ExampleBounds()),
        required_resource_keys={"store"},
    )
    def check(context: dg.AssetCheckExecutionContext, artifact: Any) -> dg.AssetCheckResult:
        store: Store = context.resources.store.open()
        bounds = ExampleBounds.parse(context.op_execution_context.op_config)
        found = [artifact] if isinstance(artifact, Artifact) else _of_this_run(context, artifact).values()
        steps = [read_steps(store.local_path(one) / "steps.json") for one in found]
        problems = [str(removal) for one in steps for removal in implausible_removals(one, bounds)]
        return _result(problems, f"{sum(len(one['steps']) for one in steps)} steps")

    return check


doctest_functions_within_bounds = _examples_within_bounds("doctest_functions")
executed_examples_within_bounds = _examples_within_bounds("executed_examples")
edit_sequences_within_bounds = _examples_within_bounds("edit_sequences")
instruction_data_within_bounds = _examples_within_bounds("instruction_data")


@dg.asset_check(asset="pretrained_checkpoint", blocking=True, required_resource_keys={"store"})
def loss_fell(context: dg.AssetCheckExecutionContext, pretrained_checkpoint: Artifact) -> dg.AssetCheckResult:
    """The training loss is lower at the end than at the beginning, and never ceased to be a number."""
    series = context.resources.store.open().manifest(pretrained_checkpoint).series.get("loss", [])
    return _result(loss_problems(series), f"{len(series)} points")


@dg.asset_check(asset="samples", blocking=True, required_resource_keys={"store"})
def references_passed(context: dg.AssetCheckExecutionContext, samples: Artifacts) -> dg.AssetCheckResult:
    """The benchmark's own reference solutions passed in the sandbox that judged the samples."""
    store: Store = context.resources.store.open()
    metrics = {
        key: store.manifest(artifact).metrics for key, artifact in _of_this_run(context, samples).items()
    }
    problems = [
        f"{key}: {found.get('references_passed', 0)} of {found['problems']} references passed"
        for key, found in metrics.items()
        if "problems" in found and found.get("references_passed") != found["problems"]
    ]
    return _result(problems, f"{len(metrics)} sets of samples")


@dg.asset_check(asset="eval_report", blocking=True, required_resource_keys={"store"})
def intervals_hold_their_values(
    context: dg.AssetCheckExecutionContext, eval_report: Artifacts
) -> dg.AssetCheckResult:
    """Every score rests on at least one unit and lies inside its interval, a pass rate between 0 and 1."""
    store: Store = context.resources.store.open()
    reports = _of_this_run(context, eval_report)
    scores = {
        f"{key} {score.metric}": score
        for key, artifact in reports.items()
        for score in read_scores(store.local_path(artifact))
    }
    problems = [f"{name}: {problem}" for name, score in scores.items() for problem in score_problems(score)]
    return _result(problems, f"{len(scores)} scores")


def loss_problems(series: Sequence[tuple[int, float | None]]) -> list[str]:
    """What is wrong with a loss curve: too short, not finite, or not lower at its end (means of a tenth)."""
    values = [value for _, value in series]
    if len(values) < 2:
        return [f"the loss curve has {len(values)} points; at least 2 are needed"]
    if any(value is None or not math.isfinite(value) for value in values):
        return ["the loss is not a finite number at some step"]
    numbers = [float(value) for value in values if value is not None]
    edge = max(1, int(len(numbers) * _EDGE))
    first, last = sum(numbers[:edge]) / edge, sum(numbers[-edge:]) / edge
    return [] if last < first else [f"the loss went from {first:.4g} to {last:.4g}; it must fall"]


def score_problems(score: Score) -> list[str]:
    """What is wrong with one score."""
    problems = [] if score.n >= 1 else [f"rests on n = {score.n}"]
    low, high = score.ci_low, score.ci_high
    if low is not None and high is not None and not low <= score.value <= high:
        problems.append(f"value {score.value:.4g} is outside its interval [{low:.4g}, {high:.4g}]")
    if score.metric.startswith("pass@") and not 0 <= score.value <= 1:
        problems.append(f"pass rate {score.value:.4g} is not between 0 and 1")
    answered = score.n * score.samples_per_problem
    if score.infrastructure_errors > _MOST_ERRORS * answered:
        problems.append(
            f"{score.infrastructure_errors} samples have no verdict, beside {answered} that have one; "
            "look at the sandbox"
        )
    return problems


def _of_this_run(
    context: dg.AssetCheckExecutionContext, artifacts: Mapping[str, Artifact]
) -> Mapping[str, Artifact]:
    run = context.op_execution_context
    if not run.has_partition_key:
        return artifacts
    key = store_key(run.partition_key)
    return {key: artifacts[key]} if key in artifacts else {}


def _result(problems: Iterable[str], looked_at: str) -> dg.AssetCheckResult:
    problems = list(problems)
    metadata: dict[str, Any] = {"looked at": looked_at}
    if problems:
        metadata["problems"] = dg.MetadataValue.md("\n".join(f"- {problem}" for problem in problems))
    return dg.AssetCheckResult(
        passed=not problems,
        description="; ".join(problems[:3]) or None,
        metadata=metadata,
    )
