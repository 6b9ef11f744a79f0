"""A killed run goes on exactly: in the midst of a step's accumulation, and around the end of an epoch.

One process here and in `test_pretrained_checkpoint.py`, two here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training.rows import ShardRows
from tests.training.backends.groups import killed, train
from tests.training.conftest import TINY, files
from tests.training.test_pretrained_checkpoint import kill_at, run

TELL_MICRO_BATCHES = """
from codellm_dag.training import trainer
honest = trainer.PackedTrainer.compute_loss
def compute_loss(self, *args, **kwargs):
    self.micro = getattr(self, "micro", -1) + 1
    say("micro", self.state.global_step + 1, self.micro % 4)
    return honest(self, *args, **kwargs)
trainer.PackedTrainer.compute_loss = compute_loss
"""


def test_killed_while_it_accumulates(inputs: Inputs, tmp_path: Path) -> None:
    expected = run(TINY, inputs, tmp_path / "whole", micro_rows=1)  # four forward passes a step
    kill_at(TINY, inputs, tmp_path / "killed", "micro 6 2", first=TELL_MICRO_BATCHES, micro_rows=1)
    report = run(TINY, inputs, tmp_path / "killed", micro_rows=1)
    assert report.messages == ["resuming from checkpoint-5"]
    assert report.points == expected.points
    assert files(tmp_path / "killed/out") == files(tmp_path / "whole/out")


@pytest.fixture(scope="module")
def epochs(inputs: Inputs) -> PretrainingRecipe:
    """Twelve steps over two epochs; the first ends within the sixth step."""
    rows = len(ShardRows([inputs["shards/python"].path]))
    step_rows = (rows - 2) // 10 * 2
    assert 5 * step_rows < rows < 6 * step_rows
    return TINY.with_changes({"batch": {"global_rows": step_rows}, "tokens": 12 * step_rows * 64})


def test_killed_around_the_end_of_an_epoch(epochs: PretrainingRecipe, inputs: Inputs, tmp_path: Path) -> None:
    expected = run(epochs, inputs, tmp_path / "whole")
    assert expected.metrics["epochs"] > 2
    for last in (5, 6):
        kill_at(epochs, inputs, tmp_path / "killed", f"step {last}")
    report = run(epochs, inputs, tmp_path / "killed")
    assert report.messages == ["resuming from checkpoint-5"]
    assert report.points == expected.points
    assert report.metrics == expected.metrics
    assert files(tmp_path / "killed/out") == files(tmp_path / "whole/out")


def test_two_processes_killed_while_they_accumulate(inputs: Inputs, tmp_path: Path) -> None:
    whole = train(TINY, inputs, tmp_path / "whole", 2, micro_rows=1)  # two forward passes each
    killed(TINY, inputs, tmp_path, 2, ("pass", 6, 2), micro_rows=1)
    told = train(TINY, inputs, tmp_path, 2, micro_rows=1)
    assert told.messages == ["resuming from checkpoint-5"]
    assert (told.points, told.metrics) == (whole.points, whole.metrics)
    assert files(tmp_path / "out") == files(tmp_path / "whole/out")


def test_two_processes_killed_around_the_end_of_an_epoch(
    epochs: PretrainingRecipe, inputs: Inputs, tmp_path: Path
) -> None:
    whole = train(epochs, inputs, tmp_path / "whole", 2)
    for moment in (("save", 6), ("pass", 7, 1)):  # the first goes on from 5, the second from 6
        killed(epochs, inputs, tmp_path, 2, moment)
    told = train(epochs, inputs, tmp_path, 2)
    assert told.messages == ["resuming from checkpoint-6"]
    assert (told.points, told.metrics) == (whole.points, whole.metrics)
    assert files(tmp_path / "out") == files(tmp_path / "whole/out")
