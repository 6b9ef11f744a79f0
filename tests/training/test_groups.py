"""Training by several processes under torchrun: losses of one process, exact resume, failures told once."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from codellm_dag.recipes import InvalidRecipeError, Runtime
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.training import Batch
from codellm_dag.stages.failures import label_of
from codellm_dag.stages.protocol import Inputs
from codellm_dag.stages.registry import STAGES
from codellm_dag.store import Artifact, Store
from codellm_dag.training.batches import MicroBatches, UnevenBatchError, accumulation_steps, micro_rows
from codellm_dag.training.plan import Plan
from codellm_dag.training.processes import Processes
from tests.support.pods import (
    events_of,
    holds,
    logs,
    outputs_of,
    pod,
    pod_request,
    points_of,
    publish_inputs,
    told,
    wait_for,
)
from tests.support.ports import free_port
from tests.training.conftest import SPIKES, TINY, save_always
from tests.training.test_pretrained_checkpoint import run

STAGE = STAGES["pretrained_checkpoint"]


def torchrun(processes: int) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, inputs: Inputs) -> tuple[Store, dict[str, Artifact]]:
    store = Store(tmp_path_factory.mktemp("groups") / "store")
    return store, publish_inputs(store, STAGE, inputs)


@pytest.mark.slow
def test_losses_are_the_same_on_one_two_and_four_processes(shared, tmp_path: Path) -> None:
    """Processes x rows of a forward pass: 1x4, 2x2 and 4x1."""
    store, slots = shared
    losses = {}
    for processes in (1, 2, 4):
        request = pod_request(store, STAGE, TINY, slots, attempt=f"of{processes}", resume=None)
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
    recipe = TINY.with_changes({"tokens": 40 * 4 * 64})
    whole = pod_request(store, STAGE, recipe, slots, attempt="whole", resume=None)
    assert pod(whole, tmp_path / "whole", launcher=torchrun(2)).wait(100) == 0, told(
        whole, tmp_path / "whole"
    )
    request = pod_request(store, STAGE, recipe, slots)
    first = pod(request, tmp_path / "first", launcher=torchrun(2), hold_at=20)
    wait_for(lambda: holds(tmp_path / "first"))
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
    assert len(points_of(whole)) == 40
    assert points_of(request) == points_of(whole)
    digests = [outputs_of(run)["model.safetensors"] for run in (whole, request)]
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_a_group_goes_back_as_one_process_does(shared, inputs: Inputs, tmp_path: Path) -> None:
    store, slots = shared
    recipe = SPIKES.with_changes({"tokens": 24 * 4 * 64})
    alone = run(recipe, inputs, tmp_path / "alone")
    assert alone.metrics["rollbacks"] >= 2
    request = pod_request(store, STAGE, recipe, slots, resume=None)
    assert pod(request, tmp_path / "two", launcher=torchrun(2)).wait(100) == 0, told(
        request, tmp_path / "two"
    )
    (rollbacks,) = events_of(request, "table")
    steps = [(row["step"], row["back_to"], row["row"], row["rows"]) for row in rollbacks["rows"]]
    assert steps == [
        (row["step"], row["back_to"], row["row"], row["rows"]) for row in alone.tables["rollbacks"]
    ]
    losses = [values["loss"] for _, values in sorted(points_of(request).items())]
    assert losses == pytest.approx([dict(alone.points)[step]["loss"] for step in range(1, 25)], rel=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "optimizer"), [("trainer", "muon"), ("fsdp2", "adamw")])
def test_two_nodes_that_share_nothing_but_the_store(
    shared, inputs: Inputs, tmp_path: Path, backend: str, optimizer: str
) -> None:
    store, slots = shared
    chosen = {"backend.name": backend, "optimizer.name": optimizer, "optimizer.learning_rate": 0.003}
    recipe = TINY.with_changes({"tokens": 40 * 4 * 64, "seed": 1, **chosen})
    alone = run(recipe, inputs, tmp_path / "alone")
    request = pod_request(store, STAGE, recipe, slots)

    def both(name: str) -> list[subprocess.Popen[bytes]]:
        meeting = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", name]
        meeting += ["--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
        return [
            pod(
                request,
                tmp_path / f"{name}-{node}",
                launcher=["-m", "torch.distributed.run", "--node-rank", str(node), *meeting],
                hold_at=20 if name == "first" else 0,
            )
            for node in range(2)
        ]

    first = both("first")
    wait_for(lambda: any(holds(tmp_path / f"first-{node}") for node in range(2)))
    for process in first:
        process.send_signal(signal.SIGTERM)
    assert all(process.wait(60) != 0 for process in first)
    assert max(points_of(request)) == 20
    assert [event["label"] for event in events_of(request, "failed")] == ["killed"]
    (saved,) = events_of(request, "saved")[-1]["entries"]
    second = both("second")
    assert [process.wait(100) for process in second] == [0, 0], told(request, tmp_path / "second-0")
    assert f"resuming from {saved}" in logs(request)
    losses = [values["loss"] for _, values in sorted(points_of(request).items())]
    assert losses == pytest.approx([values["loss"] for _, values in alone.points], rel=1e-3)


def test_a_run_may_go_on_with_another_layout_and_says_so(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_always(monkeypatch)
    whole = run(TINY, inputs, tmp_path / "whole")
    assert "processes" not in whole.metrics
    (left,) = (tmp_path / "whole/resume").glob("checkpoint-*")
    assert left.name == "checkpoint-11"
    assert (left / "processes").read_text() == "1x4"
    (left / "processes").write_text("4x1")
    report = run(TINY, inputs, tmp_path / "whole")
    assert report.messages == ["resuming from checkpoint-11"]
    assert report.metrics["processes"] == "4x1, then 1x4"
    assert report.points == whole.points


def test_losses_do_not_depend_on_the_rows_of_a_forward_pass(inputs: Inputs, tmp_path: Path) -> None:
    losses = {}
    for most in (0, 2, 1):
        report = run(TINY, inputs, tmp_path / str(most), micro_rows=most)
        losses[most] = [values["loss"] for _, values in report.points]
    assert len(losses[0]) == 12
    assert losses[2] == pytest.approx(losses[0], rel=2e-5)
    assert losses[1] == pytest.approx(losses[0], rel=2e-5)
    assert losses[1] != losses[0]  # sums in another order: it did read one row at a time


def test_micro_batches_of_all_ranks_are_those_of_one() -> None:
    plan = Plan(TINY.optimizer, Batch(global_rows=12), 2, 0, "", 2)
    alone = list(MicroBatches(plan, Processes()))
    assert alone[:3] == [[0, 1], [2, 3], [4, 5]]
    shares = [list(MicroBatches(plan, Processes(rank, 3))) for rank in range(3)]
    assert [len(share) for share in shares] == [4, 4, 4]
    assert [batch for turn in zip(*shares, strict=True) for batch in turn] == alone


@pytest.mark.parametrize(
    ("processes", "most", "micro", "accumulation"),
    [
        (1, 0, 96, 1),
        (16, 0, 6, 1),
        (16, 4, 3, 2),
        (96, 4, 1, 1),
        (1, 32, 32, 3),
        (1, 40, 32, 3),
        (2, 7, 6, 8),
    ],
)
def test_rows_of_a_forward_pass_follow_from_the_global_batch_and_the_runtime(
    processes: int, most: int, micro: int, accumulation: int
) -> None:
    assert micro_rows(96, processes, most) == micro
    plan = Plan(TINY.optimizer, Batch(global_rows=96), 1, 0, "", micro)
    assert accumulation_steps(plan, processes) == accumulation
    assert micro * accumulation * processes == 96


UNEVEN = (
    "batch.global_rows = 12 cannot be shared out among 5 processes; allowed: a multiple of 5, "
    "or 1, 2, 3, 4, 6, 12 processes"
)


def test_a_global_batch_that_cannot_be_shared_out_is_refused() -> None:
    with pytest.raises(UnevenBatchError) as error:
        micro_rows(12, 5)
    assert str(error.value) == UNEVEN
    assert label_of(error.value) == "invalid_recipe"


def test_it_is_refused_before_launch_where_the_pods_are_known() -> None:
    recipe = TINY.with_changes({"batch.global_rows": 12})
    recipe.check_runtime(Runtime(kubernetes=PodShape(image="codellm-dag:test", nodes=2, processes=3)))
    with pytest.raises(InvalidRecipeError) as error:
        recipe.check_runtime(Runtime(kubernetes=PodShape(image="codellm-dag:test", nodes=5)))
    assert str(error.value) == f"PretrainingRecipe.{UNEVEN}"
