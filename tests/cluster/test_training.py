"""Training in real containers: two pods over their network, a killed orchestrator, a pre-emption.

The pods are what the launcher renders: not root, a read-only root file system, their store on S3.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from codellm_dag.launch import LocalLauncher, StageEvent, materialize
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.protocol import Inputs
from codellm_dag.stages.registry import STAGES
from codellm_dag.store import Store
from tests.cluster.bed import Bed
from tests.cluster.bed.kubelet.engine import Podman
from tests.cluster.bed.kubelet.podman import PodmanRuntime
from tests.cluster.places import ROOT, left_in, pod_values
from tests.cluster.trainer import train
from tests.support.pods import publish_inputs
from tests.training.conftest import TINY, inputs

__all__ = ["inputs"]

pytestmark = pytest.mark.cluster

STAGE = STAGES["pretrained_checkpoint"]
STEPS = 240
RECIPE = TINY.with_changes({"tokens": STEPS * 4 * 64})


@pytest.fixture(scope="module")
def reachable() -> Iterator[int]:
    """Port of a second S3 server over the same buckets, which pods reach."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="0.0.0.0", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def bed(
    engine: Podman, reachable: int, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bed]:
    """A cluster of real containers that reach the store."""
    del s3_url
    yield from cluster(engine, reachable, tmp_path, monkeypatch)


@pytest.fixture
def holding(
    engine: Podman, reachable: int, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bed]:
    """One where training waits after half its steps until it is asked to end, however fast the machine is."""
    del s3_url
    path = f"{ROOT / 'tests/support/hold'}{os.pathsep}{ROOT}"
    yield from cluster(
        engine, reachable, tmp_path, monkeypatch, {"HOLD_AT": str(STEPS // 2), "PYTHONPATH": path}
    )


def cluster(
    engine: Podman,
    reachable: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Bed]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    environment = {name: os.environ[name] for name in names} | {"PYTHONPATH": str(ROOT), **variables}
    environment["AWS_ENDPOINT_URL"] = f"http://{engine.host_address}:{reachable}"
    with Bed(folder / "bed", runtime=PodmanRuntime(engine, environment).run) as bed:
        monkeypatch.setenv("KUBECONFIG", str(bed.kubeconfig()))
        yield bed
        assert bed.problems == []


def work(url: str, inputs: Inputs, nodes: int) -> dict[str, Any]:
    """What is to be trained, as plain JSON."""
    store = Store(url)
    given = publish_inputs(store, STAGE, inputs)
    shape = PodShape.model_validate(pod_values(nodes=nodes, grace_seconds=30))
    return {
        "store": url,
        "recipe": RECIPE.model_dump(mode="json"),
        "inputs": {slot: artifact.model_dump(mode="json") for slot, artifact in given.items()},
        "runtime": Runtime(threads=1, workers=1, kubernetes=shape).model_dump(mode="json"),
    }


@pytest.fixture(scope="module")
def alone(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses of one undisturbed process on this machine."""
    store = Store(tmp_path_factory.mktemp("alone"))
    given = publish_inputs(store, STAGE, inputs)
    outcome = materialize(
        store, STAGE, RECIPE, given, launcher=LocalLauncher(), runtime=Runtime(threads=1, workers=1)
    )
    return losses(outcome)


def losses(outcome: Any) -> list[float]:
    series = outcome.manifest.series["loss"]
    assert [step for step, _ in series] == sorted({step for step, _ in series})
    return [value for _, value in series]


def labels(store: str) -> list[str]:
    rows = [row for row in Store(store).ledger.rows() if row.stage == STAGE.name]
    return [row.label for row in sorted(rows, key=lambda row: row.start)]


def test_two_pods_train_as_one_process_does(
    bed: Bed, s3_url: str, inputs: Inputs, alone: list[float]
) -> None:
    outcome = train(work(s3_url, inputs, nodes=2))
    assert len(alone) == STEPS
    assert losses(outcome) == pytest.approx(alone, rel=2e-5)
    assert outcome.manifest.environment.devices == ["cpu", "cpu"]
    assert sorted(pod["spec"]["hostname"][-2:] for pod in bed.pods()) == ["-0", "-1"]
    assert len({pod["status"]["podIP"] for pod in bed.pods()}) == 2
    assert labels(s3_url) == ["ok"]


def test_a_killed_orchestrators_training_is_attached_to(
    bed: Bed, s3_url: str, inputs: Inputs, alone: list[float], tmp_path: Path
) -> None:
    wanted = work(s3_url, inputs, nodes=1)
    (tmp_path / "work.json").write_text(json.dumps(wanted))
    command = [sys.executable, "-m", "tests.cluster.trainer", str(tmp_path / "work.json")]
    first = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert any(line.startswith("point") for line in first.stdout), bed.summary()
    first.kill()
    first.communicate()
    events: list[StageEvent] = []
    outcome = train(wanted, events.append)
    assert events[0].message.startswith("attached to pretrained-checkpoint-")
    assert losses(outcome) == alone
    assert labels(s3_url) == ["ok"]
    assert len({pod["metadata"]["uid"] for pod in bed.pods()}) == 1
    assert bed.journal.count("create", "jobs") == 1 + [
        row.code for row in bed.journal.rows("create", "jobs")
    ].count(409)


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_preempted_training_resumes_with_equal_losses(
    request: pytest.FixtureRequest, s3_url: str, inputs: Inputs, alone: list[float], nodes: int
) -> None:
    """A lone pod is made again within its Job; of two, both end and a new Job follows."""
    bed: Bed = request.getfixturevalue("holding" if nodes == 1 else "bed")  # two are slow by themselves
    preempted: list[str] = []
    events: list[StageEvent] = []

    def disturb(event: StageEvent) -> None:
        events.append(event)
        if event.type == "point" and event.step and event.step >= STEPS // 4 and not preempted:
            name = next(p["metadata"]["name"] for p in bed.pods() if p["status"]["phase"] == "Running")
            preempted.append(name)
            bed.kubelet.preempt(("default", name))

    outcome = train(work(s3_url, inputs, nodes=nodes), disturb)
    assert preempted
    assert losses(outcome) == pytest.approx(alone, rel=2e-5 if nodes == 2 else 0)
    assert labels(s3_url) == ["evicted", "ok"]
    assert any("resuming from" in event.message for event in events if event.type == "log")
    assert len(bed.objects("jobs")) == nodes
    bed.wait(lambda: left_in(os.environ["KUBECONFIG"], "default") == [])
