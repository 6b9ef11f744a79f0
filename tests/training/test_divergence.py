"""Losses that go wrong: noticed, undone, and the same when done again or resumed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.training_options import Divergence
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training import trainer
from codellm_dag.training.batches import OrderedRows
from codellm_dag.training.divergence import Rollback, from_text, to_text, trouble, without_skipped
from codellm_dag.training.plan import DivergedError
from codellm_dag.training.rows import row_order
from tests.training.conftest import TINY, files
from tests.training.test_pretrained_checkpoint import kill_at, run

RECIPE = TINY.with_changes({"divergence": {"action": "rollback", "rollback_steps": 3, "skip_steps": 0}})


def poison(monkeypatch: pytest.MonkeyPatch, first: int = 32, count: int = 4) -> None:
    """The `count` rows from the place `first`, those of step 9 of an undisturbed run, have a NaN loss when
    they are read together.
    """
    honest = trainer.PackedTrainer.compute_loss

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        loss = honest(self, model, inputs, *args, **kwargs)
        rows = self.train_dataset
        raw = row_order(len(rows.rows), first + count, self.plan.seed)[first:]
        step = self.state.global_step
        reads = rows.order[self.plan.rows_until(step) : self.plan.rows_until(step + 1)]
        return loss * math.nan if list(reads) == list(raw) else loss

    monkeypatch.setattr(trainer.PackedTrainer, "compute_loss", compute_loss)


def test_a_spike_is_seen_against_the_window_before_it() -> None:
    recipe = Divergence(spike_deviations=3.0, spike_window=8)
    window = [2.0, 4.0, 2.0, 4.0]  # mean 3, standard deviation sqrt(4/3) = 1.1547
    assert trouble(window, 3 + 3 * 1.1547 - 0.001, 1.0, recipe) == ""
    assert "loss is 6.47" in trouble(window, 3 + 3 * 1.1547 + 0.01, 1.0, recipe)
    assert trouble(window[:3], 100.0, 1.0, recipe) == "", "half of the window is not there yet"
    assert trouble([1000.0] + window * 2, 100.0, 1.0, recipe), "what is before the window does not count"
    assert trouble(window, 100.0, 1.0, Divergence()) == ""
    assert trouble([], math.nan, 1.0, Divergence()) == "loss is nan"
    assert trouble([], 1.0, math.inf, Divergence()) == "grad_norm is inf"
    with pytest.raises(InvalidRecipeError, match="must be 0 or at least 1"):
        Divergence.parse({"spike_deviations": 0.5})


def test_rows_are_left_out_one_rollback_after_the_other() -> None:
    first = Rollback(step=5, back_to=4, row=4, rows=2, reason="loss is nan")
    second = Rollback(step=7, back_to=4, row=4, rows=1, reason="loss is nan")
    assert list(without_skipped(np.arange(10), [first])) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert list(without_skipped(np.arange(10), [first, second])) == [0, 1, 2, 3, 7, 8, 9]
    assert from_text(to_text([first, second])) == [first, second]


def test_a_run_goes_back_and_leaves_the_bad_rows_out(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(TINY, inputs, tmp_path / "plain")
    poison(monkeypatch)
    report = run(RECIPE, inputs, tmp_path / "bad")
    assert "step 9: loss is nan; going back to 6" in report.messages
    assert (report.metrics["rollbacks"], report.metrics["rows_skipped"]) == (1, 12)
    assert report.tables["rollbacks"] == [
        {"step": 9, "back_to": 6, "row": 24, "rows": 12, "reason": "loss is nan"}
    ]
    last = dict(report.points)  # a later point of a step takes the place of an earlier one
    assert sorted(last) == list(range(1, 13))
    assert [last[step] for step in range(1, 7)] == [dict(plain.points)[step] for step in range(1, 7)]
    assert last[7]["loss"] != dict(plain.points)[7]["loss"]
    again = run(RECIPE, inputs, tmp_path / "again")
    assert files(tmp_path / "again/out") == files(tmp_path / "bad/out")
    assert again.points == report.points


def test_the_rows_after_a_rollback_are_those_that_follow_the_skipped_ones(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[int, list[int]] = {}
    poison(monkeypatch)
    poisoned = trainer.PackedTrainer.compute_loss

    def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
        step = self.state.global_step
        read[step + 1] = [int(row) for row in self.train_dataset.order[step * 4 : step * 4 + 4]]
        return poisoned(self, *args, **kwargs)

    monkeypatch.setattr(trainer.PackedTrainer, "compute_loss", compute_loss)
    recipe = RECIPE.with_changes({"divergence.skip_steps": 5})
    report = run(recipe, inputs, tmp_path)
    assert report.metrics["rows_skipped"] == 5 * 4
    total = len(OrderedRows(_rows(inputs), 17 * 4, 0).order)
    raw = [int(row) for row in row_order(len(_rows(inputs)), total, 0)]
    expected = raw[: 6 * 4] + raw[11 * 4 : 17 * 4]
    assert [row for step in range(1, 13) for row in read[step]] == expected


def _rows(inputs: Inputs) -> Any:
    from codellm_dag.training.rows import ShardRows

    return ShardRows([inputs["shards/python"].path])


def test_too_many_rollbacks_and_none_to_go_back_to(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = trainer.PackedTrainer.compute_loss

    def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = honest(self, *args, **kwargs)
        return loss * math.nan if self.state.global_step == 7 else loss

    monkeypatch.setattr(trainer.PackedTrainer, "compute_loss", compute_loss)
    recipe = RECIPE.with_changes({"divergence.rollbacks": 2})
    with pytest.raises(DivergedError, match="at step 8 of 12, after 2 rollbacks, as many as are allowed"):
        run(recipe, inputs, tmp_path / "many")
    early = RECIPE.with_changes({"divergence.rollback_steps": 8})
    with pytest.raises(DivergedError, match="before the first checkpoint to go back to"):
        run(early, inputs, tmp_path / "early")


POISONED = """
from tests.training import test_divergence as bad
import pytest
bad.poison(pytest.MonkeyPatch())
"""


def test_a_run_that_is_killed_around_its_rollback_ends_in_the_same_bytes(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch)
    expected = run(RECIPE, inputs, tmp_path / "whole")
    folder = tmp_path / "killed"
    for step, times in ((8, 1), (7, 2), (10, 1)):  # before it; just after it (7 is read anew); later
        kill_at(RECIPE, inputs, folder, f"step {step}", times=times, first=POISONED)
    report = run(RECIPE, inputs, folder)
    assert report.messages[0] == "resuming from checkpoint-9.1"
    assert files(folder / "out") == files(tmp_path / "whole/out")
    assert report.metrics == expected.metrics
    assert report.tables == expected.tables
    assert dict(report.points) == dict(expected.points)
