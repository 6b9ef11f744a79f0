"""Trackers: TensorBoard really written to where it is installed, a missing one refused before training."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from codellm_dag.recipes import InvalidRecipeError, Runtime
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training import pretrained_checkpoint
from tests.modelkit.tiny import RecordingReport
from tests.training.conftest import TINY


def train(inputs: Inputs, folder: Path, *names: str) -> RecordingReport:
    for name in ("out", "resume"):
        (folder / name).mkdir()
    runtime = Runtime(threads=1, workers=1, report_to=names)  # pyright: ignore[reportArgumentType]
    report = RecordingReport(folder / "resume", runtime)
    pretrained_checkpoint.run(TINY, inputs, folder / "out", report)
    return report


def test_a_tracker_that_is_not_there_is_refused_before_training(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else found(name))
    with pytest.raises(InvalidRecipeError, match="report_to = wandb: needs the package 'wandb'"):
        train(inputs, tmp_path, "wandb")
    with pytest.raises(ValueError, match="nosuch"):
        Runtime(report_to=("nosuch",))  # pyright: ignore[reportArgumentType]


def test_tensorboard_gets_every_step(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    (tmp_path / "without").mkdir()
    with pytest.raises(InvalidRecipeError, match="needs the environment variable TENSORBOARD_LOGGING_DIR"):
        train(inputs, tmp_path / "without", "tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    (tmp_path / "with").mkdir()
    report = train(inputs, tmp_path / "with", "tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert [step for step, _ in losses] == list(range(1, 13))
    told = [values["loss"] for _, values in report.points]
    assert [value for _, value in losses] == pytest.approx(told, rel=1e-6)
