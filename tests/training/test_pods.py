"""Pretraining in pods: evicted in the middle and resumed elsewhere, with equal losses."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.stages.messages import Message
from codellm_dag.stages.protocol import Inputs
from codellm_dag.stages.registry import STAGES
from codellm_dag.store import Store
from tests.support.pods import (
    events_of,
    holds,
    logs,
    messages_of,
    outputs_of,
    pod,
    pod_request,
    points_of,
    publish_inputs,
    told,
    wait_for,
)
from tests.training.conftest import TINY

STAGE = STAGES["pretrained_checkpoint"]
STEPS = 60


def lengthened(steps: int) -> PretrainingRecipe:
    return TINY.with_changes({"tokens": steps * 4 * 64})


def closing(messages: list[Message]) -> list[str]:
    return [message["method"] for message in messages if message["method"] in ("opened", "closed")]


@pytest.mark.slow
def test_an_evicted_training_saves_and_goes_on_elsewhere_with_equal_losses(
    inputs: Inputs, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    slots = publish_inputs(store, STAGE, inputs)
    whole = pod_request(store, STAGE, lengthened(STEPS), slots, attempt="whole", resume=None)
    assert pod(whole, tmp_path / "whole").wait(100) == 0, told(whole, tmp_path / "whole")

    request = pod_request(store, STAGE, lengthened(STEPS), slots)
    first = pod(request, tmp_path / "first", hold_at=20)
    wait_for(lambda: holds(tmp_path / "first"))
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 1, told(request, tmp_path / "first")
    failed = events_of(request, "failed")[-1]
    assert failed["label"] == "killed"
    assert failed["error"] == f"Stopped: asked to end; saved after step 20 of {STEPS}"
    assert events_of(request, "saved")[-1]["entries"] == ["checkpoint-20"]
    assert closing(messages_of(request)) == ["opened", "closed"]

    second = pod(request, tmp_path / "second")  # the same attempt, as a cluster that starts its pod again
    assert second.wait(100) == 0, told(request, tmp_path / "second")
    assert closing(messages_of(request)) == ["opened", "closed", "opened", "closed"]
    lines = logs(request)
    assert lines[-2].startswith("fetched checkpoint-20 from the store: ")
    assert lines[-1] == "resuming from checkpoint-20"
    assert len(points_of(whole)) == STEPS
    assert points_of(request) == points_of(whole)
    assert outputs_of(request) == outputs_of(whole)
