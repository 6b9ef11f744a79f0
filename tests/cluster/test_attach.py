"""Orchestrators that die, double or come back, over pods that really run their stage as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from codellm_dag.launch import Launches, identify
from codellm_dag.stages.messages import StoreReader
from codellm_dag.store import Store
from tests.cluster.bed import Bed
from tests.cluster.orchestrator import count
from tests.support.stores import own_cache, s3_endpoint, s3_url, store
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import COUNT

__all__ = ["own_cache", "s3_endpoint", "s3_url", "store"]

ROOT = Path(__file__).resolve().parents[2]
RECIPE = TinyRecipe(count=30, seconds=0.15)
FINGERPRINT = identify(COUNT, RECIPE, {}).fingerprint
GROUP = f"count-{FINGERPRINT[:12]}-a1"


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    names = [name for name in os.environ if name.startswith(("AWS_", "CODELLM_"))]
    environment = {name: os.environ[name] for name in names} | {"PYTHONPATH": str(ROOT)}
    with Bed(tmp_path / "bed", environment=environment) as bed:
        yield bed
        assert bed.problems == []


def orchestrator(store: Store, bed: Bed) -> subprocess.Popen[str]:
    words = [store.url, str(bed.kubeconfig()), str(RECIPE.count), str(RECIPE.seconds)]
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cluster.orchestrator", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for_progress(store: Store, bed: Bed, least: int = 3) -> None:
    def far_enough() -> bool:
        record = Launches(store, "count", FINGERPRINT).open()
        messages = StoreReader(store, record.request.messages).read() if record else []
        payloads = [message["params"].get("payload") or {} for message in messages if message.get("params")]
        return any(payload.get("event") == "progress" and payload["done"] >= least for payload in payloads)

    bed.wait(far_enough, 60)


def test_a_killed_orchestrators_pod_goes_on_and_the_next_attaches(store: Store, bed: Bed) -> None:
    first = orchestrator(store, bed)
    wait_for_progress(store, bed)
    first.send_signal(signal.SIGKILL)
    first.wait()
    (pod,) = bed.pods(GROUP)
    events = []
    outcome = count(store.url, str(bed.kubeconfig()), RECIPE, events.append)
    assert [item["metadata"]["uid"] for item in bed.pods(GROUP)] == [pod["metadata"]["uid"]]
    assert outcome.manifest.attempt == "a1"
    assert outcome.manifest.metrics["began_at"] == 0
    assert [step for step, _ in outcome.manifest.series["square"]] == list(range(30))
    assert events[0].message.startswith(f"attached to {GROUP}")
    assert [(row.attempt, row.label, row.hosts) for row in store.ledger.rows()] == [("a1", "ok", ["node-0"])]
    assert bed.journal.count("delete", "jobs") == 0
    assert [path for name in ("launches", "messages", "resume") for path in store.backend.sizes(name)] == []
    assert store.verify(outcome.artifact) == []


def test_two_orchestrators_at_once_share_one_pod(tmp_path: Path, bed: Bed) -> None:
    store = Store(tmp_path / "store")
    both = [orchestrator(store, bed), orchestrator(store, bed)]
    printed = {process.communicate(timeout=90)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(printed) == 1
    assert len(bed.pods()) == 1
    assert [(row.attempt, row.label) for row in store.ledger.rows()] == [("a1", "ok")]


def test_a_pod_that_is_pre_empted_while_nobody_looks_is_resumed_and_told_of(tmp_path: Path, bed: Bed) -> None:
    store = Store(tmp_path / "store")
    first = orchestrator(store, bed)
    wait_for_progress(store, bed, 8)
    first.send_signal(signal.SIGKILL)
    first.wait()
    (pod,) = bed.pods(GROUP)
    bed.kubelet.preempt(("default", pod["metadata"]["name"]))
    bed.wait(lambda: bed.pods(GROUP) and bed.pods(GROUP)[-1]["metadata"]["uid"] != pod["metadata"]["uid"], 30)
    outcome = count(store.url, str(bed.kubeconfig()), RECIPE)
    assert outcome.manifest.attempt == "a1"
    began_at = outcome.manifest.metrics["began_at"]
    assert isinstance(began_at, int)
    assert began_at >= 3, "it went on from what the first pod had saved"
    assert [step for step, _ in outcome.manifest.series["square"]] == list(range(30))
    labels = [(row.attempt, row.label) for row in store.ledger.of("count", FINGERPRINT)]
    assert sorted(labels) == [("a1", "ok"), ("a1.1", "evicted")]
    assert [cost.label for cost in outcome.manifest.cost] == ["evicted", "ok"]


def test_time_from_a_pods_end_to_its_materialization(tmp_path: Path, bed: Bed) -> None:
    store = Store(tmp_path / "store")
    ended = []
    outcome = count(
        store.url,
        str(bed.kubeconfig()),
        TinyRecipe(count=3),
        lambda event: ended.append(event) if "is succeeded" in event.message else None,
    )
    took = time.time() - ended[0].at
    assert outcome.manifest.attempt == "a1"
    assert took < 2
