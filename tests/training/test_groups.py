"""Training by several processes under torchrun: losses of one process, exact resume, failures told once."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from codellm_dag.recipes.training import Batch
from codellm_dag.stages.failures import label_of
from codellm_dag.stages.protocol import Inputs
from codellm_dag.stages.registry import STAGES
from codellm_dag.store import Artifact, Store
from codellm_dag.training.batches import MicroBatches, UnevenBatchError, accumulation_steps
from codellm_dag.training.processes import Processes
from tests.support.pods import (
    events_of,
    logs,
    outputs_of,
    pod,
    pod_request,
    points_of,
    publish_inputs,
    told,
    wait_for,
)
from tests.training.conftest import TINY, save_always
from tests.training.test_pretrained_checkpoint import run

STAGE = STAGES["pretrained_checkpoint"]
RECIPE = TINY.with_changes({"batch.micro_rows": 1})
"""Twelve steps of four rows, one row a forward pass."""


def torchrun(processes: int) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> tuple[Store, dict[str, Artifact]]:
    store = Store(tmp_path_factory.mktemp("groups") / "store")
    return store, publish_inputs(store, STAGE, inputs)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_group_that_is_evicted_resumes_to_the_bit(shared, tmp_path: Path) -> None:
    store, slots = shared
    recipe = RECIPE.with_changes({"tokens": 100 * 4 * 64})
    whole = pod_request(store, STAGE, recipe, slots, attempt="whole", resume=None)
    assert pod(whole, tmp_path / "whole", launcher=torchrun(2)).wait(100) == 0, told(
        whole, tmp_path / "whole"
    )
    request = pod_request(store, STAGE, recipe, slots)
    first = pod(request, tmp_path / "first", launcher=torchrun(2))
    wait_for(lambda: points_of(request))
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) != 0
    assert [event["label"] for event in events_of(request, "failed")] == ["killed"], told(
        request, tmp_path / "first"
    )
    (saved,) = events_of(request, "saved")[-1]["entries"]
    index = json.loads(store.backend.read(f"{request.resume}/index.json"))
    names = {path.rpartition("/")[2] for path in index["entries"][saved]["files"]}
    assert {"rng_state_0.pth", "rng_state_1.pth", "optimizer.pt", "processes"} <= names
    second = pod(request, tmp_path / "second", launcher=torchrun(2))
    assert second.wait(100) == 0, told(request, tmp_path / "second")
    assert f"resuming from {saved}" in logs(request)
    assert len(points_of(whole)) == 100
    assert points_of(request) == points_of(whole)
    digests = [outputs_of(run)["model.safetensors"] for run in (whole, request)]
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_two_nodes_that_share_nothing_but_the_store(shared, inputs: Inputs, tmp_path: Path) -> None:
    store, slots = shared
    recipe = RECIPE.with_changes({"tokens": 240 * 4 * 64, "seed": 1})
    alone = run(recipe, inputs, tmp_path / "alone")
    request = pod_request(store, STAGE, recipe, slots)

    def both(name: str) -> list[subprocess.Popen[bytes]]:
        meeting = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", name]
        with socket.create_server(("127.0.0.1", 0)) as free:
            meeting += ["--rdzv-endpoint", f"127.0.0.1:{free.getsockname()[1]}"]
        return [
            pod(
                request,
                tmp_path / f"{name}-{node}",
                launcher=["-m", "torch.distributed.run", "--node-rank", str(node), *meeting],
            )
            for node in range(2)
        ]

    first = both("first")
    wait_for(lambda: points_of(request))
    for process in first:
        process.send_signal(signal.SIGTERM)
    assert all(process.wait(60) != 0 for process in first)
    assert max(points_of(request)) < 240, "it ended before it was asked to"
    assert [event["label"] for event in events_of(request, "failed")] == ["killed"]
    (saved,) = events_of(request, "saved")[-1]["entries"]
    second = both("second")
    assert [process.wait(100) for process in second] == [0, 0], told(request, tmp_path / "second-0")
    assert f"resuming from {saved}" in logs(request)
    losses = [values["loss"] for _, values in sorted(points_of(request).items())]
    assert losses == pytest.approx([values["loss"] for _, values in alone.points], rel=1e-3)


def test_a_run_may_go_on_with_another_number_of_processes_and_says_so(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_always(monkeypatch)
    whole = run(RECIPE, inputs, tmp_path / "whole")
    assert "processes" not in whole.metrics
    (left,) = (tmp_path / "whole/resume").glob("checkpoint-*")
    assert left.name == "checkpoint-11"
    (left / "processes").write_text("4")
    report = run(RECIPE, inputs, tmp_path / "whole")
    assert report.messages == ["resuming from checkpoint-11"]
    assert report.metrics["processes"] == "4, then 1"
    assert report.points == whole.points


def test_micro_batches_of_all_ranks_are_those_of_one() -> None:
    alone = list(MicroBatches(24, 2, Processes()))
    assert alone[:3] == [[0, 1], [2, 3], [4, 5]]
    shares = [list(MicroBatches(24, 2, Processes(rank, 3))) for rank in range(3)]
    assert [len(share) for share in shares] == [4, 4, 4]
    assert [batch for turn in zip(*shares, strict=True) for batch in turn] == alone


def test_a_global_batch_that_cannot_be_shared_out_is_refused() -> None:
    batch = Batch(global_rows=12, micro_rows=2)
    assert [accumulation_steps(batch, number) for number in (1, 2, 3, 6)] == [6, 3, 2, 1]
    with pytest.raises(UnevenBatchError) as error:
        accumulation_steps(batch, 4)
    assert str(error.value) == (
        "batch.global_rows = 12 is no multiple of batch.micro_rows = 2 times 4 processes; "
        "use 1, 2, 3, 6 processes, or another micro_rows"
    )
    assert label_of(error.value) == "invalid_recipe"
