"""Stage ``critical_batch_size``: how large a batch may be before it costs tokens, over the course of
training.

The simple empirical method of Merrill et al. 2025 (arXiv:2505.23971): from points of one run, branches go on
with 1, 2, 4, … times its batch, each with the learning rate scaled to it, over the same tokens. The largest
batch up to which no branch's loss lies more than a tolerance above that of the unchanged batch is the
critical one there (theirs is compared with every smaller batch, on smoothed losses). Writes ``report.json``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from codellm_dag.recipes.scaling import CriticalBatchRecipe
from codellm_dag.scaling.nested import NestedReport
from codellm_dag.scaling.small_run import Data, SmallRun
from codellm_dag.scaling.study import Study
from codellm_dag.stages.protocol import Inputs, Report
from codellm_dag.training.architecture import of_shape
from codellm_dag.training.determinism import deterministic
from codellm_dag.training.flops import training_flops_per_token
from codellm_dag.training.model import new_model
from codellm_dag.training.output import run_identity, write_json
from codellm_dag.training.rows import InvalidTrainingDataError, ShardRows


def run(recipe: CriticalBatchRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Measure on inputs ``shards/<language>``.

    Metrics: critical_batch_tokens at the last branching. Series over tokens: critical_batch_tokens.
    Raises InvalidTrainingDataError where a branch has less than one step.
    """
    torch.set_num_threads(report.runtime.threads)
    rows = ShardRows([shard.path for shard in inputs.many("shards").values()])
    largest = recipe.multiples[-1] * recipe.base_rows * rows.sequence_length
    if recipe.branch_tokens < largest:
        raise InvalidTrainingDataError(
            f"branch_tokens = {recipe.branch_tokens}: less than one step of the largest batch; at least "
            f"{largest}"
        )
    data = Data(rows, recipe.evaluation_rows, recipe.seed)
    model = new_model(recipe.model, rows.vocabulary_size, 0, recipe.seed)
    trunk = SmallRun(model, recipe.optimizer, data)
    study = Study(report, run_identity(recipe, inputs, report.runtime.threads), _flops(recipe, rows))
    found: list[dict[str, Any]] = []
    with deterministic():
        for tokens in recipe.branch_at:
            _train_trunk(trunk, study, recipe, tokens)
            branches = [_branch(trunk, study, recipe, tokens, multiple) for multiple in recipe.multiples]
            answer = critical_batch(branches, recipe.tolerance)
            found.append({"tokens": trunk.tokens, **answer, "branches": branches})
            report.point(trunk.tokens, critical_batch_tokens=answer["critical_batch_tokens"])
    write_json(out / "report.json", {"branchings": found})
    report.table(
        "branches", [{"at_tokens": one["tokens"], **row} for one in found for row in one["branches"]]
    )
    last = found[-1]
    names = ("critical_batch_tokens", "at_least", "at_most")
    report.metric(**{name: last[name] for name in names})


def critical_batch(branches: list[dict[str, Any]], tolerance: float) -> dict[str, Any]:
    """The critical batch in tokens, from branches in rising order of ``batch_tokens`` with their ``loss``.

    ``at_least``: the largest batch was no worse either, so the critical one is that or more; ``at_most``: the
    next to the smallest was worse already, so it is the smallest or less.
    """
    limit = branches[0]["loss"] + tolerance
    largest = branches[0]["batch_tokens"]
    for branch in branches:
        if branch["loss"] > limit:
            smallest = largest == branches[0]["batch_tokens"]
            return {"critical_batch_tokens": largest, "at_least": False, "at_most": smallest}
        largest = branch["batch_tokens"]
    return {"critical_batch_tokens": largest, "at_least": True, "at_most": False}


def _flops(recipe: CriticalBatchRecipe, rows: ShardRows) -> dict[str, float]:
    """Operations of every trial: at each branching the run up to it, and the branches from it."""
    per_token = training_flops_per_token(of_shape(recipe.model, rows.vocabulary_size), rows.sequence_length)
    flops, before = {}, 0
    for tokens in recipe.branch_at:
        flops[_trunk_name(tokens)] = float((tokens - before) * per_token)
        for multiple in recipe.multiples:
            flops[_branch_name(tokens, multiple)] = float(recipe.branch_tokens * per_token)
        before = tokens
    return flops


def _trunk_name(tokens: int) -> str:
    return f"run-to-{tokens}"


def _branch_name(tokens: int, multiple: int) -> str:
    return f"branch-at-{tokens}-batch-x{multiple}"


def _train_trunk(trunk: SmallRun, study: Study, recipe: CriticalBatchRecipe, tokens: int) -> None:
    """Train the run that is branched up to `tokens`."""

    def train(trial: NestedReport) -> None:
        warmup = recipe.warmup_steps if trunk.place == 0 else 0
        trunk.train(tokens // trunk.data.length - trunk.place, recipe.base_rows, trial, warmup=warmup)

    trunk.as_trial(study, _trunk_name(tokens), train)


def _branch(
    trunk: SmallRun, study: Study, recipe: CriticalBatchRecipe, tokens: int, multiple: int
) -> dict[str, Any]:
    """One branch's record. All read the same rows: as many as make whole steps of the largest batch."""
    length = trunk.data.length
    step = recipe.multiples[-1] * recipe.base_rows
    rows = recipe.branch_tokens // length // step * step
    rate = multiple**recipe.learning_rate_power

    def train(trial: NestedReport) -> dict[str, Any]:
        branch = trunk.branch()
        warmup = recipe.warmup_steps // multiple if trunk.place == 0 else 0
        branch.train(rows, recipe.base_rows * multiple, trial, rate, warmup)
        return {
            "batch_tokens": recipe.base_rows * multiple * length,
            "steps": rows // (recipe.base_rows * multiple),
            "tokens": rows * length,
            "learning_rate": recipe.optimizer.learning_rate * rate,
            "loss": branch.loss(),
        }

    return study.trial(_branch_name(tokens, multiple), train)
