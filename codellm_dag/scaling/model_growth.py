"""Stage ``model_growth``: what a grown model saves against the same shape trained from scratch.

A small model is trained, grown (`growth.py`) and trained on; the large shape is trained from random weights
on the same rows. The report gives the tokens and FLOPs each takes to the loss that the run from scratch ends
with, the small model's counted (Du et al. 2024: speed-up in FLOPs at equal loss). Writes ``report.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from codellm_dag.recipes.scaling import GrowthRecipe
from codellm_dag.scaling.growth import grow, grown_architecture
from codellm_dag.scaling.nested import NestedReport
from codellm_dag.scaling.small_run import Data, SmallRun
from codellm_dag.scaling.study import Study
from codellm_dag.stages.protocol import Inputs, Report
from codellm_dag.training.architecture import Architecture, of_shape
from codellm_dag.training.determinism import deterministic
from codellm_dag.training.flops import training_flops_per_token
from codellm_dag.training.model import new_model
from codellm_dag.training.output import run_identity, write_json
from codellm_dag.training.rows import ShardRows

Curve = list[list[float]]
"""[tokens, held-out loss], in order of tokens."""


def run(recipe: GrowthRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Compare on inputs ``shards/<language>``.

    Metrics of each method: ``<method>_tokens_ratio`` and ``<method>_flops_ratio``, its tokens and FLOPs to
    the loss at which the run from scratch ends, over those of that run; left out where it never gets there.
    """
    torch.set_num_threads(report.runtime.threads)
    rows = ShardRows([shard.path for shard in inputs.many("shards").values()])
    data = Data(rows, recipe.evaluation_rows, recipe.seed)
    shape = of_shape(recipe.model, rows.vocabulary_size)
    flops = _flops(recipe, shape, data.length)
    study = Study(report, run_identity(recipe, inputs, report.runtime.threads), flops)
    compared = []
    with deterministic():
        model = new_model(recipe.model, rows.vocabulary_size, 0, recipe.seed)
        small = SmallRun(model, recipe.optimizer, data)
        small_curve = small.as_trial(
            study, "small", lambda trial: _train(small, recipe, recipe.small_tokens, trial)
        )
        for method in recipe.methods:
            compared.append(_compare(recipe, method, small, shape, study))
            for tokens, loss in compared[-1]["grown"]:
                report.point(int(tokens), **{f"{method}: grown": loss})
            for tokens, loss in compared[-1]["scratch"]:
                report.point(int(tokens), **{f"{method}: from scratch": loss})
    values = {"small": small_curve, "methods": compared}
    write_json(out / "report.json", values)
    columns = (
        "method",
        "parameters",
        "loss",
        "scratch_tokens",
        "grown_tokens",
        "tokens_ratio",
        "flops_ratio",
    )
    report.table("growth", [{column: one[column] for column in columns} for one in compared])
    for one in compared:
        if one["tokens_ratio"] is not None:
            report.metric(
                **{f"{one['method']}_{name}": one[name] for name in ("tokens_ratio", "flops_ratio")}
            )


def tokens_to(curve: Sequence[Sequence[float]], loss: float) -> float | None:
    """Tokens at which `curve` first reaches `loss`, in a line between measurements; None if it never does."""
    for number, (tokens, value) in enumerate(curve):
        if value <= loss:
            if number == 0:
                return tokens
            before, higher = curve[number - 1]
            return before + (tokens - before) * (higher - loss) / (higher - value)
    return None


def _flops(recipe: GrowthRecipe, shape: Architecture, length: int) -> dict[str, float]:
    """Operations of every trial; `shape` is the small model's."""
    flops = {"small": float(recipe.small_tokens * training_flops_per_token(shape, length))}
    for method in recipe.methods:
        large = training_flops_per_token(grown_architecture(shape, method, recipe.factor), length)
        flops |= {f"{method}-{start}": float(recipe.tokens * large) for start in ("grown", "scratch")}
    return flops


def _compare(
    recipe: GrowthRecipe, method: str, small: SmallRun, shape: Architecture, study: Study
) -> dict[str, Any]:
    """What one method makes of the trained small model, of the sizes `shape`."""

    def train_grown(trial: NestedReport) -> Curve:
        model = grow(small.model, method, recipe.factor, recipe.seed)
        run = SmallRun(model, recipe.optimizer, small.data, small.place)
        return _train(run, recipe, recipe.tokens, trial)

    def train_from_scratch(trial: NestedReport) -> Curve:
        grown = grow(small.model, method, recipe.factor, recipe.seed)
        torch.manual_seed(recipe.seed)
        model = type(grown)(grown.config)
        return _train(SmallRun(model, recipe.optimizer, small.data), recipe, recipe.tokens, trial)

    grown = study.trial(f"{method}-grown", train_grown)
    scratch = study.trial(f"{method}-scratch", train_from_scratch)
    goal, length = scratch[-1][1], small.data.length
    large = grown_architecture(shape, method, recipe.factor)
    large_flops = training_flops_per_token(large, length)
    small_flops = training_flops_per_token(shape, length) * small.tokens
    there, reached = tokens_to(scratch, goal), tokens_to(grown, goal)
    assert there is not None
    answer = {
        "method": method,
        "parameters": large.parameters,
        "loss": goal,
        "scratch": scratch,
        "grown": grown,
        "scratch_tokens": there,
        "grown_tokens": reached,
        "tokens_ratio": None,
        "flops_ratio": None,
    }
    if reached is not None:
        answer["tokens_ratio"] = reached / there
        answer["flops_ratio"] = (small_flops + (reached - small.tokens) * large_flops) / (there * large_flops)
    return answer


def _train(run: SmallRun, recipe: GrowthRecipe, tokens: int, trial: NestedReport) -> Curve:
    """Train for `tokens` more; the curve begins where the run begins."""
    curve = [[float(run.tokens), run.loss()]]
    rows, every = tokens // run.data.length, max(recipe.global_rows, recipe.evaluate_every // run.data.length)
    warmup = recipe.warmup_steps
    while rows >= recipe.global_rows:
        part = min(every, rows)
        run.train(part, recipe.global_rows, trial, warmup=warmup)
        rows, warmup = rows - part, 0
        curve.append([float(run.tokens), run.loss()])
    return curve
