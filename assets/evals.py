"""Groups benchmarks and evals: problems; samples of every model on each, reports, the leaderboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg

from assets.metadata import image, interval_rows
from assets.partitions import BENCHMARKS, MODEL_EVALUATIONS, model_key
from assets.plots import intervals
from assets.stage_asset import GPU_POOL, Inputs, Requests, many, stage_asset
from codellm_dag.store import Artifact
from resources.io_manager import Artifacts
from resources.keys import evaluation_key

_ALL = dg.AllPartitionMapping()
_WITH_WHAT_IS_THERE = dg.AutomationCondition.eager().without(~dg.AutomationCondition.any_deps_missing())
"""After any report, though other models were never evaluated."""


@stage_asset(group="benchmarks", owner="team:evals", kinds={"json"}, partitions=BENCHMARKS)
def benchmark_problems() -> Requests:
    """The problems of one benchmark: prompts, tests, and reference solutions."""
    return {benchmark: {} for benchmark in BENCHMARKS.get_partition_keys()}


@stage_asset(
    group="evals",
    owner="team:evals",
    kinds={"parquet", "huggingface"},
    partitions=MODEL_EVALUATIONS,
    mappings={"sft_checkpoint": _ALL, "rl_policy": _ALL, "benchmark_problems": _ALL},
    optional=("pretrained_checkpoint", "base_checkpoint"),
    pool=GPU_POOL,
)
def samples(
    base_checkpoint: Artifact | None,
    pretrained_checkpoint: Artifact | None,
    sft_checkpoint: Artifacts,
    rl_policy: Artifacts,
    mixture: Artifact,
    benchmark_problems: Artifacts,
) -> Requests:
    """What one model answers on one benchmark, each sample judged outside the sandbox that ran it."""
    own = {"base": base_checkpoint, "pretrained": pretrained_checkpoint}
    models = {name: checkpoint for name, checkpoint in own.items() if checkpoint is not None}
    models |= {model_key("sft", trial): checkpoint for trial, checkpoint in sft_checkpoint.items()}
    models |= {model_key("rl", trial): policy for trial, policy in rl_policy.items()}
    subjects = {name: {"problems": problems} for name, problems in benchmark_problems.items()}
    subjects["bits_per_byte"] = {"corpus": mixture}
    return {
        evaluation_key(model, benchmark): {"checkpoint": checkpoint, **subject}
        for model, checkpoint in models.items()
        for benchmark, subject in subjects.items()
    }


@stage_asset(
    group="evals",
    owner="team:evals",
    kinds={"json"},
    partitions=MODEL_EVALUATIONS,
    automation=dg.AutomationCondition.eager(),
)
def eval_report(samples: Artifacts) -> Requests:
    """Scores of one model on one benchmark, each with n, its estimator and a confidence interval."""
    return {key: {"samples": artifact} for key, artifact in samples.items()}


def _score_plots(folder: Path) -> dict[str, dg.MetadataValue | None]:
    """A plot per metric: every model's number with its interval."""
    by_metric: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads((folder / "leaderboard.json").read_text(encoding="utf-8")):
        name = row["metric"] if row["benchmark"] in row["metric"] else f"{row['benchmark']} {row['metric']}"
        by_metric.setdefault(name, []).append(row)
    return {name: image(intervals(interval_rows(rows)), name) for name, rows in by_metric.items()}


@stage_asset(
    group="evals",
    owner="team:evals",
    kinds={"json"},
    show=_score_plots,
    verify=True,
    automation=_WITH_WHAT_IS_THERE,
)
def leaderboard(eval_report: Artifacts) -> Inputs:
    """All scores in one table."""
    return many("report", eval_report)
