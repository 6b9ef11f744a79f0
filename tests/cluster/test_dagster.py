"""A Dagster run whose stage is a pod: its events, its cancelling, and an orchestrator that is moved."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets.stage_asset import stage_asset
from codellm_dag.launch import StageEvent
from codellm_dag.store import Store
from resources import build_resources
from resources.observers import observing
from tests.cluster.bed import Bed
from tests.support.stores import own_cache
from tests.support.tiny_stages import COUNT

__all__ = ["own_cache"]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    environment = {"PYTHONPATH": str(ROOT), "CODELLM_CACHE": os.environ["CODELLM_CACHE"]}
    with Bed(tmp_path / "bed", environment=environment) as bed:
        monkeypatch.setenv("KUBECONFIG", str(bed.kubeconfig()))
        yield bed
        assert bed.problems == []


@pytest.fixture
def pods(tmp_path: Path) -> str:
    path = tmp_path / "pods.yaml"
    shape = "image: registry.example/stage:1, namespace: default, cpu: '2', secrets: []"
    path.write_text(f"{{extends: cpu, {shape}, allow_dirty: true, grace_seconds: 5}}")
    return str(path)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@stage_asset(group="tests", owner="team:tests", kinds=(), stage=COUNT)
def count():
    """A slow count."""
    return {}


def run(instance: dg.DagsterInstance, store: Store, pods: str) -> dg.ExecuteInProcessResult:
    resources = build_resources(store=store.url)
    config = {
        "ops": {"count": {"config": {"count": 40, "seconds": 0.2}}},
        "resources": {"launcher": {"config": {"kind": "kubernetes", "pods": pods}}},
    }
    return dg.materialize(
        [count], instance=instance, resources=resources, run_config=config, raise_on_error=False
    )


def test_a_stage_in_a_pod_is_an_asset_like_any_other(
    bed: Bed, pods: str, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    result = run(instance, store, pods)
    assert result.success
    (event,) = result.asset_materializations_for_node("count")
    artifact = store.refs.artifact("count")
    assert artifact is not None
    assert event.tags is not None
    assert event.tags["dagster/data_version"] == artifact.content_digest
    manifest = store.manifest(artifact)
    assert (manifest.attempt, manifest.environment.threads) == ("a1", 2), "the pod has two CPUs"
    (job,) = bed.objects("jobs")
    assert job["metadata"]["annotations"]["codellm-dag/run"] == result.run_id
    assert job["metadata"]["labels"]["codellm-dag/asset"] == "count"


def interrupted(instance: dg.DagsterInstance, store: Store, pods: str, *, cancelled: bool) -> None:
    def interrupt(event: StageEvent) -> None:
        if event.type == "progress" and event.done >= 2 and not told:
            told.append(event)
            if cancelled:
                (record,) = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
                instance.report_run_canceling(record.dagster_run)
            os.kill(os.getpid(), signal.SIGINT)

    told: list[StageEvent] = []
    with observing(interrupt):
        assert not run(instance, store, pods).success


def test_a_run_that_is_cancelled_takes_its_pods_along(
    bed: Bed, pods: str, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    interrupted(instance, store, pods, cancelled=True)
    bed.wait(lambda: not bed.objects("jobs") and not bed.pods())
    assert [(row.label, row.error) for row in store.ledger.rows()] == [("killed", "cancelled")]


def test_a_run_whose_process_is_moved_leaves_its_pods_to_the_next(
    bed: Bed, pods: str, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    interrupted(instance, store, pods, cancelled=False)
    assert len(bed.pods()) == 1
    assert store.ledger.rows() == []
    assert run(instance, store, pods).success
    assert [(row.attempt, row.label) for row in store.ledger.rows()] == [("a1", "ok")]
    assert len(bed.pods()) == 1
