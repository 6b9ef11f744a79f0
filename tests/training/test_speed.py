"""How fast a run says it is, and that what it did is counted once, however often it is resumed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from codellm_dag.stages.protocol import Inputs, Stopped
from codellm_dag.training import pretrained_checkpoint, speed
from codellm_dag.training.speed import Speed, flops_per_token, machine_words
from tests.modelkit.tiny import RecordingReport, tiny_llama
from tests.training.conftest import TINY
from tests.training.test_pretrained_checkpoint import run

FLOPS = 6 * (2 * (32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64) + 400 * 32) + 12 * 2 * 2 * 16 * 64
"""Of one token of TINY: six for each parameter of two blocks (query and output; key and value, of one head;
three
matrices of the SwiGLU layer) and of the output matrix; twelve layers x heads x size x row length."""


def test_rate_left_and_utilization(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(speed, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(speed, "peak_memory", lambda: 3 * 2**30)
    monkeypatch.setattr(speed.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(speed.torch.cuda, "get_device_name", lambda: "NVIDIA A100-SXM4-80GB")
    meter = Speed(flops_per_token=6 * 10**9, processes=2, half=True, _told=100.0)
    meter.begin()
    now[0] = 100.5
    assert meter.step(10_000, 90_000) == {}, "not yet a second"
    now[0] = 102.0
    point = meter.step(10_000, 80_000)
    assert point == {
        "tokens_per_second": 10_000.0,
        "peak_memory_gib": 3.0,
        "seconds_left": 8.0,
        "mfu": pytest.approx(10_000 * 6e9 / (2 * 312e12)),
    }
    assert machine_words(point) == ", 3.0 GiB, MFU 10%"
    assert machine_words({"peak_memory_gib": 0.44}) == ", 0.4 GiB"
    assert (meter.tokens, meter.flops) == (20_000, 20_000 * 6e9)


def test_the_rate_is_that_of_the_last_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(speed, "time", SimpleNamespace(monotonic=lambda: now[0]))
    meter = Speed(None, 1, half=False, _told=0.0)
    meter.begin()
    rates = []
    for second in range(1, 101):
        now[0] = float(second)
        rates.append(meter.step(1 if second <= 50 else 7, 100)["tokens_per_second"])
    assert (rates[0], rates[49], rates[-1]) == (1.0, 1.0, pytest.approx(7.0))
    assert meter.flops is None


def test_operations_of_a_model_and_of_one_that_is_not_known() -> None:
    assert flops_per_token(tiny_llama(vocabulary=400), 64) == FLOPS
    assert flops_per_token(SimpleNamespace(config={"model_type": "gpt2"}), 64) is None


def test_an_attempt_counts_what_it_did_itself(inputs: Inputs, tmp_path: Path) -> None:
    for name in ("out", "resume"):
        (tmp_path / name).mkdir()
    first = RecordingReport(tmp_path / "resume")
    first.stop_requested = lambda: len(first.points) >= 4
    with pytest.raises(Stopped):
        pretrained_checkpoint.run(TINY, inputs, tmp_path / "out", first)
    second = run(TINY, inputs, tmp_path)
    assert first.worked == (5 * 4 * 64, 5 * 4 * 64 * FLOPS)
    assert second.worked == (7 * 4 * 64, 7 * 4 * 64 * FLOPS)


def test_steps_that_are_undone_have_cost_something_too(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.training.test_divergence import RECIPE, poison

    poison(monkeypatch)
    report = run(RECIPE, inputs, tmp_path)  # steps 1 to 8, then back to 6 and to the end; 9 gave no loss
    assert report.worked[0] == (8 + 6) * 4 * 64


def test_a_run_says_its_rate_its_memory_and_the_time_left(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_EVERY", 0.0)
    monkeypatch.setattr(speed, "peak_memory", lambda: 3 * 2**30)
    report = run(TINY, inputs, tmp_path)
    measured = report.measured
    assert [step for step, _ in measured] == list(range(1, 13))
    assert all(
        {"tokens_per_second", "peak_memory_gib", "seconds_left"} <= point.keys() for _, point in measured
    )
    assert all(point["tokens_per_second"] > 0 and point["peak_memory_gib"] == 3.0 for _, point in measured)
    assert measured[0][1]["seconds_left"] > measured[-1][1]["seconds_left"] == 0
    losses = [f"loss {values['loss']:.3f}" for _, values in report.points]
    assert report.notes == losses[:1] + [f"{loss}, 3.0 GiB" for loss in losses[1:]]
