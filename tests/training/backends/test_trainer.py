"""The trainer as a backend: what it tells of itself, and the configuration it leaves."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

from codellm_dag.stages.protocol import Inputs
from tests.training.conftest import TINY
from tests.training.test_pretrained_checkpoint import run


def test_it_tells_what_made_the_checkpoint(inputs: Inputs, tmp_path: Path) -> None:
    report = run(TINY.with_changes({"tokens": 2 * 4 * 64}), inputs, tmp_path, micro_rows=2)
    version = importlib.metadata.version("transformers")
    assert (report.metrics["backend"], report.metrics["backend_version"]) == ("trainer", version)
    given = json.loads((tmp_path / "out/_volatile/trainer/training_arguments.json").read_text())
    assert (given["max_steps"], given["gradient_accumulation_steps"]) == (2, 2)
    assert given["per_device_train_batch_size"] == 2
    assert json.loads((tmp_path / "out/training.json").read_text())["recipe"]["backend"]["name"] == "trainer"
