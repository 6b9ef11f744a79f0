"""Stage ``critical_batch_size``: how large a batch may be before it costs tokens, over the course of
training.

The simple empirical method of Merrill et al. 2025 (arXiv:2505.23971): from points of one run, branches go on
with 1, 2, 4, … times its batch, each with the learning rate scaled to it, over the same tokens. The largest
batch up to which no branch's loss lies more than a tolerance above that of the unchanged batch is the
critical one there. Writes ``report.json``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from codellm_dag.recipes.scaling import CriticalBatchRecipe
from codellm_dag.scaling.small_run import Data, SmallRun
from codellm_dag.stages.protocol import Inputs, Report
from codellm_dag.training.determinism import deterministic
from codellm_dag.training.model import new_model
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
    found: list[dict[str, Any]] = []
    with deterministic():
        for number, tokens in enumerate(recipe.branch_at):
            warmup = recipe.warmup_steps if trunk.place == 0 else 0
            trunk.train(tokens // rows.sequence_length - trunk.place, recipe.base_rows, warmup=warmup)
            branches = [_branch(trunk, recipe, multiple) for multiple in recipe.multiples]
            answer = critical_batch(branches, recipe.tolerance)
            found.append({"tokens": trunk.tokens, **answer, "branches": branches})
            report.point(trunk.tokens, critical_batch_tokens=answer["critical_batch_tokens"])
            report.progress(number + 1, len(recipe.branch_at), "branchings")
    text = json.dumps({"branchings": found}, indent=1, sort_keys=True) + "\n"
    (out / "report.json").write_text(text, encoding="utf-8")
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


def _branch(trunk: SmallRun, recipe: CriticalBatchRecipe, multiple: int) -> dict[str, Any]:
    """One branch's record. All read the same rows: as many as make whole steps of the largest batch."""
    length = trunk.data.length
    step = recipe.multiples[-1] * recipe.base_rows
    rows = recipe.branch_tokens // length // step * step
    branch = trunk.branch()
    rate = multiple**recipe.learning_rate_power
    warmup = recipe.warmup_steps // multiple if trunk.place == 0 else 0
    branch.train(rows, recipe.base_rows * multiple, rate, warmup)
    return {
        "batch_tokens": recipe.base_rows * multiple * length,
        "steps": rows // (recipe.base_rows * multiple),
        "tokens": rows * length,
        "learning_rate": recipe.optimizer.learning_rate * rate,
        "loss": branch.loss(),
    }
