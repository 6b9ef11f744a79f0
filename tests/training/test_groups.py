"""Training by several processes under torchrun: losses of one process, exact resume, failures told once."""

from __future__ import annotations

from pathlib import Path

import pytest

from codellm_dag.stages.protocol import Inputs
from codellm_dag.stages.registry import STAGES
from codellm_dag.store import Artifact, Store
from tests.support.pods import events_of, pod, pod_request, points_of, publish_folder, told
from tests.training.conftest import TINY

STAGE = STAGES["pretrained_checkpoint"]
RECIPE = TINY.with_changes({"batch.micro_rows": 1})
"""Twelve steps of four rows, one row a forward pass."""


def torchrun(processes: int) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> tuple[Store, dict[str, Artifact]]:
    store = Store(tmp_path_factory.mktemp("groups") / "store")
    kinds = {slot.removesuffix("/*"): kind for slot, kind in STAGE.slots.items()}
    return store, {
        slot: publish_folder(store, inputs[slot].path, kinds[slot.split("/")[0]]) for slot in inputs
    }


def test_losses_are_those_of_one_process(shared, tmp_path: Path) -> None:
    store, slots = shared
    losses = {}
    for processes in (1, 2, 4):
        request = pod_request(store, STAGE, RECIPE, slots, attempt=f"of{processes}", resume=None)
        launcher = torchrun(processes) if processes > 1 else []
        assert pod(request, tmp_path / str(processes), launcher=launcher).wait(120) == 0, told(
            request, tmp_path / str(processes)
        )
        losses[processes] = [values["loss"] for _, values in sorted(points_of(request).items())]
        environment = events_of(request, "environment")[-1]["values"]
        assert (environment["processes"], environment["devices"]) == (processes, ["cpu"] * processes)
    assert len(losses[1]) == 12
    assert losses[2] == pytest.approx(losses[1], rel=2e-5)
    assert losses[4] == pytest.approx(losses[1], rel=2e-5)
