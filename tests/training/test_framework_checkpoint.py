"""A fine-tuning as a point of a comparison: the same checkpoint, its curve, and what the machine took."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codellm_dag.recipes.frameworks import FrameworksRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training import framework_checkpoint, sft_checkpoint
from codellm_dag.training.framework_checkpoint import Clock, measured
from tests.modelkit.tiny import RecordingReport
from tests.training.conftest import files

TRAINING = {
    "optimizer": {"learning_rate": 0.01},
    "batch": {"global_rows": 2},
    "epochs": 3,
    "sequence_length": 64,
}


def test_it_is_the_fine_tuning_and_its_curve(slots: dict[str, Any], tmp_path: Path) -> None:
    recipe = FrameworksRecipe.parse({"training": TRAINING}).for_partition("trainer")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    report = RecordingReport(tmp_path / "resume-1")
    framework_checkpoint.run(recipe, Inputs(slots), tmp_path / "one", report)
    sft_checkpoint.run(
        recipe.training, Inputs(slots), tmp_path / "two", RecordingReport(tmp_path / "resume-2")
    )
    found, plain = files(tmp_path / "one"), files(tmp_path / "two")
    curve = json.loads(found.pop("curve.json"))
    assert found == plain
    assert curve["loss"] == [[step, values["loss"]] for step, values in report.points]
    assert [step for step, _ in curve["loss"]] == list(range(1, report.metrics["steps"] + 1))
    assert (curve["backend"], curve["tokens"]) == ("trainer", report.metrics["tokens"])
    taken = json.loads((tmp_path / "one" / "_volatile" / "measured.json").read_text())
    assert taken == {name: report.metrics[name] for name in taken}
    assert 0 < taken["seconds_to_first_step"] < taken["seconds"]
    assert taken["tokens_per_second"] > 0
    assert taken["peak_memory_mib"] > 100  # PyTorch alone is more


def test_rate_and_first_step_by_hand(tmp_path: Path) -> None:
    clock = Clock(RecordingReport(tmp_path))
    clock.metric(tokens=400)
    clock.began, clock.ended = clock.began - 100.0, {1: clock.began - 90.0, 4: clock.began - 84.0}
    clock.ended |= {2: clock.began - 88.0, 3: clock.began - 87.0}
    found = measured(clock, outside=False)
    assert found["tokens_per_second"] == pytest.approx(50.0)  # 300 tokens of the last three steps in 6 s
    assert found["seconds_to_first_step"] == pytest.approx(10.0)
    resumed = Clock(RecordingReport(tmp_path), resumed=True)
    resumed.metrics, resumed.ended = clock.metrics, clock.ended
    found = measured(resumed, outside=False)
    assert (found["tokens_per_second"], found["seconds_to_first_step"]) == (None, None)
