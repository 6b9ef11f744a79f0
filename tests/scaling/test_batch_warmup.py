"""A small batch, a large one and one that grows: what the table says, and a real comparison."""

from __future__ import annotations

import json

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.scaling import BatchWarmupRecipe
from codellm_dag.recipes.training import Batch
from codellm_dag.scaling import batch_warmup
from codellm_dag.scaling.batch_warmup import summary
from codellm_dag.scaling.small_run import SmallRun
from codellm_dag.stages.protocol import Inputs, Stopped
from codellm_dag.training.batch_schedule import batch_schedule
from codellm_dag.training.rows import ShardRows
from tests.modelkit.tiny import RecordingReport

RECIPE = BatchWarmupRecipe.parse(
    {
        "model": {"hidden_size": 16, "layers": 1, "heads": 1, "kv_heads": 1, "intermediate_size": 32},
        "optimizer": {"learning_rate": 0.01},
        "batch": {"global_rows": 1, "warmup": [{"share": 0.25, "global_rows": 4}]},
        "tokens": 32 * 64,
        "evaluate_every": 256,
        "evaluation_rows": 8,
        "warmup_steps": 4,
        "seeds": 1,
    }
)


def run(inputs: Inputs, folder, recipe=RECIPE, **more) -> RecordingReport:
    for name in ("out", "resume"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    report = RecordingReport(folder / "resume", **more)
    batch_warmup.run(recipe, inputs, folder / "out", report)
    return report


def test_the_way_to_the_worst_run_s_loss_worked_out_by_hand():
    curves = {
        "small": [[0, 0, 6.0], [640, 10, 4.0], [1280, 20, 2.0]],
        "large": [[0, 0, 6.0], [640, 5, 5.0], [1280, 10, 3.0]],
        "warmup": [[0, 0, 6.0], [640, 8, 4.5], [1280, 14, 2.5]],
    }
    other = {
        name: [[tokens, steps, loss + 1] for tokens, steps, loss in curve] for name, curve in curves.items()
    }
    growing = Batch.parse({"global_rows": 1, "warmup": [{"share": 0.5, "global_rows": 2}]})
    schedules = [
        batch_schedule(batch, 20, 64) for batch in (Batch(global_rows=1), Batch(global_rows=2), growing)
    ]
    small, large, warmup = summary([curves, other], schedules, 64)
    # The goal is the large batch's end, 3 and 4: half, all and three quarters of the last stretch.
    assert {row["goal"] for row in (small, large, warmup)} == {3.5}
    assert (small["tokens_to_loss"], small["steps_to_loss"]) == (960, 15)
    assert (large["tokens_to_loss"], large["steps_to_loss"]) == (1280, 10)
    assert (warmup["tokens_to_loss"], warmup["steps_to_loss"]) == (1120, 12.5)
    # What the small batch ends with, 2 and 3, the others do not reach.
    assert (small["steps_to_small"], small["tokens_to_small"]) == (20, 1280)
    assert (large["steps_to_small"], warmup["tokens_to_small"]) == (None, None)
    better = [{**one, "warmup": [[0, 0, 6.0], [640, 8, 4.0], [1280, 14, 1.0]]} for one in (curves, curves)]
    assert summary(better, schedules, 64)[2]["steps_to_small"] == pytest.approx(8 + 6 * 2 / 3)
    assert (warmup["loss"], warmup["lowest"], warmup["highest"]) == (3.0, 2.5, 3.5)
    assert [row["batch_tokens"] for row in (small, large, warmup)] == ["64", "128", "64 to 128"]
    assert [(row["steps"], row["tokens"]) for row in (small, warmup)] == [(20, 1280), (15, 1280)]


def test_a_comparison(ladder_inputs, tmp_path):
    inputs = Inputs({"shards/python": ladder_inputs["shards"]})
    report = run(inputs, tmp_path / "whole")
    found = json.loads((tmp_path / "whole/out/report.json").read_text())
    (curves,) = found["curves"]
    assert {name: curve[-1][:2] for name, curve in curves.items()} == {
        "small": [2048, 32],
        "large": [2048, 8],
        "warmup": [2048, 8 + 6],
    }
    assert len({curve[0][2] for curve in curves.values()}) == 1, "they begin with the same weights"
    assert curves["small"][2] == curves["warmup"][2], "and are one run until the batch grows, at 512 tokens"
    assert curves["small"][-1][2] < curves["large"][-1][2] - 0.1  # eight steps do not reach what 32 do
    assert report.metrics["warmup_steps_ratio"] < 1.0
    assert report.metrics["large_loss_difference"] == pytest.approx(
        curves["large"][-1][2] - curves["small"][-1][2]
    )
    assert [row["run"] for row in report.tables["runs"]] == ["small", "large", "warmup"]
    assert report.worked[0] == 3 * 2048

    stopped = RecordingReport(tmp_path / "resume")
    stopped.stop_requested = lambda: stopped.worked[0] > 1.5 * 2048
    for name in ("out", "resume"):
        (tmp_path / name).mkdir()
    with pytest.raises(Stopped):
        batch_warmup.run(RECIPE, inputs, tmp_path / "out", stopped)
    again = run(inputs, tmp_path)
    assert "1 of 3 trials were done by earlier attempts: small-0" in again.messages
    assert (tmp_path / "out/report.json").read_bytes() == (tmp_path / "whole/out/report.json").read_bytes()
    assert again.points == report.points


def test_the_large_batch_has_the_root_of_four_times_the_rate(ladder_inputs, monkeypatch):
    told = []

    def train(self, rows, global_rows, trial, rate, warmup):
        del self, rows, trial
        told.append((global_rows, rate, warmup))

    monkeypatch.setattr(SmallRun, "train", train)
    rows = ShardRows([ladder_inputs["shards"].path])
    schedule = batch_schedule(Batch(global_rows=4), 32, 64)
    batch_warmup._train(RECIPE, rows, 0, schedule, None)  # type: ignore[arg-type]
    assert told[0] == (4, 2.0, 1)
    assert {one[:2] for one in told} == {(4, 2.0)}
    assert {one[2] for one in told[1:]} == {0}


def test_a_batch_that_does_not_grow_is_refused():
    with pytest.raises(InvalidRecipeError, match="must have at least one stage"):
        BatchWarmupRecipe.parse({"batch": {"global_rows": 4}})
