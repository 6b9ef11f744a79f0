"""Runs whose batch grows: the steps of a bare loop, exact resume, rollback, and every backend of ours."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from codellm_dag.recipes import Runtime
from codellm_dag.recipes.training import PretrainingRecipe, SftRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training import sft_checkpoint
from codellm_dag.training.model import new_model, target_losses
from codellm_dag.training.optimizer import make_optimizer
from codellm_dag.training.rows import IGNORED, ShardRows, row_order
from tests.modelkit.tiny import RecordingReport
from tests.training.backends.groups import ADAMW, Rank, assert_equal_to_tolerance, killed, on, train
from tests.training.conftest import TINY, files
from tests.training.test_divergence import poison
from tests.training.test_pretrained_checkpoint import kill_at, run
from tests.training.test_resume import TELL_MICRO_BATCHES
from tests.training.test_speed import FLOPS

WARMUP = {"global_rows": 2, "warmup": [{"share": 0.25, "global_rows": 4}, {"share": 0.5, "global_rows": 8}]}
GROWING = TINY.with_changes({"batch": WARMUP, "tokens": 48 * 64})
"""Twelve steps: six of 2 rows, three of 4, three of 8."""
GROWING_ADAMW = ADAMW.with_changes({"batch": WARMUP, "tokens": 48 * 64})
SIZES = [2] * 6 + [4] * 3 + [8] * 3


def test_it_is_a_bare_loop_with_these_batches_and_rates(inputs: Inputs, tmp_path: Path) -> None:
    recipe = PretrainingRecipe.parse(
        GROWING.model_dump() | {"optimizer": {"learning_rate": 0.003, "schedule": "linear"}}
    )
    report = run(recipe, inputs, tmp_path, micro_rows=2)
    # Warm-up of the rate: 5 % of 48 rows, rounded up to two steps of 2. Then a line from row 4 to row 40.
    places = np.cumsum([0, *SIZES])
    rates = [0.5, 1.0, *(1 - 0.9 * (row - 4) / 36 for row in places[2:12])]
    rates = [0.003 * rate * math.sqrt(rows / 2) for rate, rows in zip(rates, SIZES, strict=True)]
    rows = ShardRows([inputs["shards/python"].path])
    order = row_order(len(rows), 48, 0)
    model = new_model(recipe.model, rows.vocabulary_size, 0, 0)
    optimizer = make_optimizer(model, recipe.optimizer)
    losses = []
    for start, count, rate in zip(places, SIZES, rates, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = zip(*(rows.row(int(number)) for number in order[start : start + count]), strict=True)
        columns = [torch.from_numpy(np.stack(column)) for column in batch]
        loss = target_losses(model, *columns, IGNORED).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    points = [values for _, values in report.points]
    assert [values["loss"] for values in points] == pytest.approx(losses, rel=2e-5)
    assert [values["learning_rate"] for values in points] == pytest.approx(rates)
    assert [values["global_rows"] for values in points] == SIZES
    weights = load_file(tmp_path / "out/model.safetensors")
    for name, value in model.state_dict().items():
        if name in weights:
            torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-4)


def test_tokens_steps_and_epochs_are_those_of_the_rows_read(inputs: Inputs, tmp_path: Path) -> None:
    report = run(GROWING, inputs, tmp_path)
    rows = ShardRows([inputs["shards/python"].path])
    targets = sum(int((rows.row(int(n)).targets != IGNORED).sum()) for n in row_order(len(rows), 48, 0))
    assert (report.metrics["steps"], report.metrics["tokens"]) == (12, targets)
    assert report.metrics["epochs"] == pytest.approx(48 / len(rows))
    assert report.worked == (48 * 64, 48 * 64 * FLOPS)
    assert [done for done, total, _ in report.steps if total == 48 * 64] == list(np.cumsum(SIZES) * 64)


def test_one_size_told_in_two_ways_is_one_run(inputs: Inputs, tmp_path: Path) -> None:
    """Rows of a forward pass are chosen for each size; sums in another order agree to rounding."""
    losses = {}
    for most in (0, 3, 1):
        report = run(GROWING, inputs, tmp_path / str(most), micro_rows=most)
        losses[most] = [values["loss"] for _, values in report.points]
    assert losses[3] == pytest.approx(losses[0], rel=2e-5)
    assert losses[1] == pytest.approx(losses[0], rel=2e-5)
    assert losses[1] != losses[0]


def test_the_router_s_loss_is_that_of_the_step_s_rows(inputs: Inputs, tmp_path: Path) -> None:
    experts = {"model.experts": 4, "model.experts_per_token": 2, "model.router_auxiliary_loss": 1.0}
    still = {"optimizer.name": "adamw", "optimizer.learning_rate": 1e-9}
    report = run(GROWING.with_changes({**experts, **still}), inputs, tmp_path, micro_rows=1)
    # Where nothing is learnt it adds 2 (of balanced routing to two experts) to log(400), whatever the batch.
    losses = [values["loss"] for _, values in report.points]
    assert losses == pytest.approx([2 + math.log(400)] * 12, abs=0.3)


@pytest.mark.slow
def test_killed_at_an_edge_between_and_in_accumulation(inputs: Inputs, tmp_path: Path) -> None:
    expected = run(GROWING, inputs, tmp_path / "whole", micro_rows=2)
    kill_at(GROWING, inputs, tmp_path / "killed", "step 7", micro_rows=2)  # saved: step 6, the edge
    tell = TELL_MICRO_BATCHES.replace("self.micro % 4", "self.accelerator.sync_gradients")
    kill_at(GROWING, inputs, tmp_path / "killed", "micro 11 False", first=tell, micro_rows=2)
    report = run(GROWING, inputs, tmp_path / "killed", micro_rows=2)
    assert report.messages == ["resuming from checkpoint-10"]
    assert report.points == expected.points
    assert report.metrics == expected.metrics
    assert files(tmp_path / "killed/out") == files(tmp_path / "whole/out")


@pytest.fixture(scope="module")
def plain(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rank]:
    """The trainer's run in one process, a step's rows in one pass."""
    folder = tmp_path_factory.mktemp("plain")
    return folder, train(GROWING_ADAMW, inputs, folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "processes"),
    [
        ("trainer", 1),
        ("trainer", 2),
        ("fsdp2", 2),
        pytest.param("deepspeed", 2, marks=pytest.mark.frameworks),
    ],
)
def test_every_backend_of_ours_grows_and_resumes_to_the_bit(
    inputs: Inputs, tmp_path: Path, plain: tuple[Path, Rank], backend: str, processes: int
) -> None:
    options = {"zero_stage": 2, "offload": True} if backend == "deepspeed" else {}
    chosen = on(GROWING_ADAMW, name=backend, **options)
    whole = train(chosen, inputs, tmp_path / "whole", processes, micro_rows=1)
    assert_equal_to_tolerance(tmp_path / "whole", whole, *plain)
    folder = tmp_path / "stopped"
    for stop_after in (6, 8):  # after the last step of a size, and amid one
        told = train(chosen, inputs, folder, processes, stop_after=stop_after, micro_rows=1)
        assert told.ended == f"Stopped: asked to end; saved after step {stop_after} of 12"
    killed(chosen, inputs, folder, processes, ("save", 11), micro_rows=1)
    told = train(chosen, inputs, folder, processes, micro_rows=1)
    assert told.messages == ["resuming from checkpoint-10"]
    assert told.points == whole.points
    assert files(folder / "out") == files(tmp_path / "whole/out")


def test_a_rollback_leaves_out_the_rows_of_larger_steps(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, first=20, count=4)  # the ninth step, of 4 rows
    recipe = GROWING.with_changes(
        {"divergence": {"action": "rollback", "rollback_steps": 4, "skip_steps": 6}}
    )
    report = run(recipe, inputs, tmp_path / "bad")
    # Back to step 8, at row 20; the rows of steps 9 to 14 are left out: 4, and five times 8.
    assert report.tables["rollbacks"] == [
        {"step": 9, "back_to": 8, "row": 20, "rows": 44, "reason": "loss is nan"}
    ]
    assert report.worked[0] == 48 * 64
    again = run(recipe, inputs, tmp_path / "again")
    assert again.points == report.points
    assert files(tmp_path / "again/out") == files(tmp_path / "bad/out")


def test_fine_tuning_grows_by_shares(slots: dict, tmp_path: Path) -> None:
    batch = {"global_rows": 1, "warmup": [{"share": 0.5, "global_rows": 2}]}
    recipe = SftRecipe.parse({"sequence_length": 64, "epochs": 4.0, "batch": batch, "replay": 0.0})
    for name in ("out", "resume"):
        (tmp_path / name).mkdir()
    report = RecordingReport(tmp_path / "resume", Runtime(threads=1, workers=1))
    sft_checkpoint.run(recipe, Inputs(slots), tmp_path / "out", report)
    sizes = [int(values["global_rows"]) for _, values in report.points]
    total = 4 * report.metrics["rows"]
    assert sizes == [1] * math.ceil(total / 2) + [2] * round(total / 4)
    assert report.metrics["epochs"] == pytest.approx(sum(sizes) / report.metrics["rows"])
