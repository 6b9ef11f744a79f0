"""Branches are exact copies, the critical batch is read off rightly, and a real measurement runs."""

from __future__ import annotations

import json

import pytest
import torch

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.scaling import CriticalBatchRecipe
from codellm_dag.recipes.training import ModelShape, Optimizer
from codellm_dag.scaling import critical_batch_size
from codellm_dag.scaling.critical_batch_size import critical_batch
from codellm_dag.scaling.small_run import Data, SmallRun
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training.model import new_model, target_losses
from codellm_dag.training.rows import InvalidTrainingDataError, ShardRows
from tests.modelkit.tiny import RecordingReport

SHAPE = ModelShape(hidden_size=16, layers=1, heads=1, kv_heads=1, intermediate_size=32)
RECIPE = CriticalBatchRecipe.parse(
    {
        "model": SHAPE.model_dump(),
        "optimizer": {"learning_rate": 0.01},
        "base_rows": 1,
        "multiples": [1, 2, 8],
        "branch_at": [0, 1024],
        "branch_tokens": 1024,
        "evaluation_rows": 8,
    }
)


@pytest.fixture
def rows(ladder_inputs) -> ShardRows:
    return ShardRows([ladder_inputs["shards"].path])


@pytest.fixture
def run(rows) -> SmallRun:
    model = new_model(SHAPE, rows.vocabulary_size, 0, 0)
    return SmallRun(model, Optimizer(learning_rate=0.01), Data(rows, 8, 0))


def test_a_branch_goes_on_as_the_run_itself_does(run):
    run.train(8, 2, None)
    branch = run.branch()
    run.train(8, 2, None)
    kept = run.loss()
    assert branch.loss() != kept
    branch.train(8, 2, None)
    assert (branch.loss(), branch.tokens) == (kept, run.tokens)


def test_training_lowers_the_loss_of_rows_it_never_reads(run, rows):
    before = run.loss()
    run.train(64, 4, None)
    assert run.loss() < before - 0.3
    read = {int(number) for number in run.data._order[: run.place]}
    assert max(read) < len(rows) - 8


def test_the_loss_is_the_mean_over_all_targets(run, rows):
    total, count = 0.0, 0
    for number in range(len(rows) - 8, len(rows)):
        row = [torch.from_numpy(column)[None] for column in rows.row(number)]
        with torch.no_grad():
            losses = target_losses(run.model, *row, -100)
        assert len(losses) == int((row[2] != -100).sum())
        total, count = total + float(losses.double().sum()), count + len(losses)
    assert run.loss() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize(
    ("losses", "expected", "at_least"),
    [
        ([2.0, 2.005, 2.3], 200, False),
        ([2.0, 2.02, 1.9], 100, False),  # a larger one that is lucky does not count
        ([2.0, 1.9, 2.0], 400, True),
        ([2.0, float("inf"), 2.0], 100, False),
    ],
)
def test_the_largest_batch_up_to_which_none_is_worse(losses, expected, at_least):
    branches = [{"batch_tokens": 100 * 2**n, "loss": loss} for n, loss in enumerate(losses)]
    found = critical_batch(branches, 0.01)
    assert (found["critical_batch_tokens"], found["at_least"]) == (expected, at_least)
    assert found["at_most"] is (expected == 100)


def test_a_measurement(ladder_inputs, tmp_path):
    report = RecordingReport(tmp_path)
    inputs = Inputs({"shards/python": ladder_inputs["shards"]})
    critical_batch_size.run(RECIPE, inputs, tmp_path, report)
    first, second = json.loads((tmp_path / "report.json").read_text())["branchings"]
    assert (first["tokens"], second["tokens"]) == (0, 1024)
    assert [one["steps"] for one in first["branches"]] == [16, 8, 2]
    assert {one["tokens"] for one in first["branches"]} == {1024}
    assert [one["learning_rate"] for one in first["branches"]] == pytest.approx(
        [0.01, 0.01 * 2**0.5, 0.01 * 8**0.5]
    )
    # Two large steps from random weights do not reach what sixteen small ones do.
    assert first["branches"][2]["loss"] > first["branches"][0]["loss"] + 0.1
    assert first["critical_batch_tokens"] < 8 * 64
    assert [step for step, _ in report.points] == [0, 1024]


def test_bad_input(ladder_inputs, tmp_path):
    inputs = Inputs({"shards/python": ladder_inputs["shards"]})
    with pytest.raises(InvalidTrainingDataError, match="branch_tokens = 100: less than one step"):
        critical_batch_size.run(
            RECIPE.with_changes({"branch_tokens": 100}), inputs, tmp_path, RecordingReport(tmp_path)
        )
    with pytest.raises(InvalidRecipeError, match="must rise and begin with 1"):
        RECIPE.with_changes({"multiples": [2, 4]})
    with pytest.raises(InvalidRecipeError, match="must rise and be at least 0"):
        RECIPE.with_changes({"branch_at": [5, 5]})
