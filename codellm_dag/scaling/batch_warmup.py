"""Stage ``batch_warmup``: a small batch, a large one and one that grows, over the same tokens.

The comparison of Merrill et al. 2025 (arXiv:2505.23971), who train OLMo 1B with a small batch, with a large
one and with one that grows: what a batch costs in tokens and saves in steps on the way to a loss. The loss is
the highest that any of a seed's runs ends with, so that all reach it. Weights, order of rows and the rows
that are measured are the same in all runs of a seed. Writes ``report.json``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from codellm_dag.recipes.scaling import BatchWarmupRecipe
from codellm_dag.recipes.training import Batch
from codellm_dag.scaling.model_growth import tokens_to
from codellm_dag.scaling.nested import NestedReport
from codellm_dag.scaling.small_run import Data, SmallRun
from codellm_dag.scaling.study import Study
from codellm_dag.stages.protocol import Inputs, Report
from codellm_dag.training.architecture import of_shape
from codellm_dag.training.batch_schedule import BatchSchedule, batch_schedule
from codellm_dag.training.determinism import deterministic
from codellm_dag.training.flops import training_flops_per_token
from codellm_dag.training.model import new_model
from codellm_dag.training.output import run_identity, write_json
from codellm_dag.training.rows import ShardRows
from codellm_dag.training.schedule import growth_factor

RUNS = ("small", "large", "warmup")
Curve = list[list[float]]
"""[tokens, steps, held-out loss in nats], in the order of training."""


def run(recipe: BatchWarmupRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Compare on inputs ``shards/<language>``.

    Metrics of the runs ``large`` and ``warmup``: ``<run>_steps_ratio`` and ``<run>_tokens_ratio``, their
    steps and tokens to the loss over those of the small batch, and ``<run>_loss_difference`` at the end,
    means over seeds. Series: the loss of each run over tokens, of the first seed. Raises InvalidRecipeError
    where a batch size has no step.
    """
    torch.set_num_threads(report.runtime.threads)
    rows = ShardRows([shard.path for shard in inputs.many("shards").values()])
    length = rows.sequence_length
    sizes = {
        "small": Batch(global_rows=recipe.batch.global_rows),
        "large": Batch(global_rows=recipe.batch.largest),
        "warmup": recipe.batch,
    }
    schedules = {name: batch_schedule(sizes[name], recipe.tokens // length, length) for name in RUNS}
    per_token = training_flops_per_token(of_shape(recipe.model, rows.vocabulary_size), length)
    seeds = range(recipe.seed, recipe.seed + recipe.seeds)
    flops = {
        f"{name}-{seed}": float(schedules[name].rows * length * per_token) for seed in seeds for name in RUNS
    }
    study = Study(report, run_identity(recipe, inputs, report.runtime.threads), flops)
    with deterministic():
        curves = [
            {
                name: study.trial(f"{name}-{seed}", partial(_train, recipe, rows, seed, schedules[name]))
                for name in RUNS
            }
            for seed in seeds
        ]
    for name in RUNS:
        for tokens, _, loss in curves[0][name]:
            report.point(int(tokens), **{name: loss})
    compared = summary(curves, [schedules[name] for name in RUNS], length)
    values = {"curves": curves, "runs": compared, "seeds": list(seeds)}
    write_json(out / "report.json", values)
    report.table("runs", compared)
    small, *others = compared
    for other in others:
        ratios = {
            f"{unit}_ratio": other[f"{unit}_to_loss"] / small[f"{unit}_to_loss"]
            for unit in ("steps", "tokens")
        }
        ratios["loss_difference"] = other["loss"] - small["loss"]
        report.metric(**{f"{other['run']}_{key}": value for key, value in ratios.items()})


def summary(
    curves: Sequence[Mapping[str, Curve]], schedules: Sequence[BatchSchedule], length: int
) -> list[dict[str, Any]]:
    """A row a run, in the order of `RUNS`: batch, steps, end and way to the loss, means over seeds.

    ``steps_to_loss`` and ``tokens_to_loss`` are where a curve first reaches the loss, in a line between two
    measurements, ``steps_to_small`` and ``tokens_to_small`` where it reaches what the small batch ends with,
    None if it does not with every seed; ``lowest`` and ``highest`` are the least and most end loss of any
    seed.
    """
    goals = [max(own[name][-1][2] for name in RUNS) for own in curves]
    small = [own["small"][-1][2] for own in curves]
    found = []
    for name, schedule in zip(RUNS, schedules, strict=True):
        own = [seed[name] for seed in curves]
        ends = [curve[-1][2] for curve in own]
        first, last = schedule.stretches[0].rows * length, schedule.stretches[-1].rows * length
        found.append(
            {
                "run": name,
                "batch_tokens": str(first) if first == last else f"{first} to {last}",
                "steps": schedule.steps,
                "tokens": schedule.rows * length,
                "loss": fmean(ends),
                "lowest": min(ends),
                "highest": max(ends),
                "goal": fmean(goals),
                "steps_to_loss": _mean_way(own, 1, goals),
                "tokens_to_loss": _mean_way(own, 0, goals),
                "steps_to_small": _mean_way(own, 1, small),
                "tokens_to_small": _mean_way(own, 0, small),
            }
        )
    return found


def _mean_way(curves: Sequence[Curve], column: int, losses: Sequence[float]) -> float | None:
    """Mean over seeds of where each curve reaches its loss, in the unit of `column`; None if one does not."""
    ways = [
        tokens_to([[point[column], point[2]] for point in curve], loss)
        for curve, loss in zip(curves, losses, strict=True)
    ]
    reached = [way for way in ways if way is not None]
    return fmean(reached) if len(reached) == len(ways) else None


def _train(
    recipe: BatchWarmupRecipe, rows: ShardRows, seed: int, schedule: BatchSchedule, trial: NestedReport
) -> Curve:
    """One run's curve, measured at the start and after about every ``evaluate_every`` tokens."""
    model = new_model(recipe.model, rows.vocabulary_size, 0, seed)
    run = SmallRun(model, recipe.optimizer, Data(rows, recipe.evaluation_rows, seed))
    curve, steps = [[0.0, 0.0, run.loss()]], 0
    ends = [*(part.step for part in schedule.stretches[1:]), schedule.steps]
    for part, end in zip(schedule.stretches, ends, strict=True):
        rate = growth_factor(recipe.batch, part.rows)
        rising = 0 if steps else recipe.warmup_steps * recipe.batch.global_rows // part.rows
        every = max(1, recipe.evaluate_every // (rows.sequence_length * part.rows), rising)
        while steps < end:
            now = min(every, end - steps)
            run.train(now * part.rows, part.rows, trial, rate, rising)
            steps, rising = steps + now, 0
            curve.append([float(run.tokens), float(steps), run.loss()])
    return curve
