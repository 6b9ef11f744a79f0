"""A killed run goes on exactly: in the midst of a step's accumulation, and around the end of an epoch."""

from __future__ import annotations

import signal
from pathlib import Path

from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training.rows import ShardRows
from tests.training.conftest import TINY, files
from tests.training.test_pretrained_checkpoint import child, run

TELL_MICRO_BATCHES = """
from codellm_dag.training import trainer
honest = trainer.PackedTrainer.compute_loss
def compute_loss(self, *args, **kwargs):
    self.micro = getattr(self, "micro", -1) + 1
    print("micro", self.state.global_step + 1, self.micro % 4, flush=True)
    return honest(self, *args, **kwargs)
trainer.PackedTrainer.compute_loss = compute_loss
"""


def kill_at(
    recipe: PretrainingRecipe, inputs: Inputs, folder: Path, line: str, first: str = "", micro_rows: int = 0
) -> None:
    """Run in a process that saves after every step, and kill it when it says `line`."""
    process = child(recipe, inputs, folder, first, micro_rows)
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait(timeout=60) == -signal.SIGKILL


def test_killed_while_it_accumulates(inputs: Inputs, tmp_path: Path) -> None:
    expected = run(TINY, inputs, tmp_path / "whole", micro_rows=1)  # four forward passes a step
    kill_at(TINY, inputs, tmp_path / "killed", "micro 6 2", TELL_MICRO_BATCHES, micro_rows=1)
    report = run(TINY, inputs, tmp_path / "killed", micro_rows=1)
    assert report.messages == ["resuming from checkpoint-5"]
    assert report.points == expected.points
    assert files(tmp_path / "killed/out") == files(tmp_path / "whole/out")


def test_killed_around_the_end_of_an_epoch(inputs: Inputs, tmp_path: Path) -> None:
    rows = len(ShardRows([inputs["shards/python"].path]))
    step_rows = (rows - 2) // 10 * 2  # the epoch ends within the sixth step
    assert 5 * step_rows < rows < 6 * step_rows
    recipe = TINY.with_changes({"batch": {"global_rows": step_rows}, "tokens": 12 * step_rows * 64})
    expected = run(recipe, inputs, tmp_path / "whole")
    assert expected.metrics["epochs"] > 2
    for last in (5, 6):
        kill_at(recipe, inputs, tmp_path / "killed", f"step {last}")
    report = run(recipe, inputs, tmp_path / "killed")
    assert report.points == expected.points
    assert report.metrics == expected.metrics
    assert files(tmp_path / "killed/out") == files(tmp_path / "whole/out")
