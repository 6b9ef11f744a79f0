"""The whole life cycle on the test cluster with its store on S3, and 20 faults on the way."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from codellm_dag.store import Store
from tests.cluster.bed import Bed
from tests.cluster.mischief import Mischief
from tests.cluster.places import ROOT, left_in, pod_values
from tests.lifecycle.conftest import BIN, Project, lifecycle

__all__ = ["lifecycle"]

pytestmark = pytest.mark.cluster

FAULTS = 20


@pytest.fixture
def project(s3_url: str, tmp_path: Path) -> Project:
    """A project whose store is a bucket and whose stages run on a cluster."""
    pods = tmp_path / "pods.yaml"
    pods.write_text(yaml.safe_dump(pod_values(cpu="2", infra_retries=10, preemptions=50)))
    variables = {"CODELLM_LAUNCHER": "kubernetes", "CODELLM_PODS": str(pods)}
    variables["KUBECONFIG"] = str(tmp_path / "bed" / "kubeconfig")
    return Project(tmp_path, s3_url, variables)


@pytest.fixture
def bed(project: Project) -> Iterator[Bed]:
    """A cluster whose pods reach the bucket as this process does."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
    environment = {name: os.environ[name] for name in names} | {"PYTHONPATH": str(ROOT)}
    environment["CODELLM_CACHE"] = str(project.folder / "node-cache")
    with Bed(project.folder / "bed", environment=environment) as bed:
        bed.kubeconfig()
        yield bed
        assert bed.problems == []


def digests(store: Store) -> dict[str, str]:
    """Content digest of every asset and partition."""
    return {f"{m.name}/{m.partition}": m.content_digest for m in store.manifests()}


def leaderboard(project: Project) -> dict[tuple[str, str, str], Any]:
    """Every present score with its interval."""
    return {
        (row["model"], row["benchmark"], row["metric"]): (
            row["value"],
            row["ci_low"],
            row["ci_high"],
            row["n"],
        )
        for row in project.json("scores")["scores"]
        if row["current"]
    }


def test_twenty_faults_change_nothing(lifecycle: Project, project: Project, bed: Bed) -> None:
    log = project.folder / "demo.log"
    running: list[subprocess.Popen[bytes]] = []

    def kill() -> bool:
        if not running or running[-1].poll() is not None:
            return False
        running[-1].kill()
        return True

    mischief = Mischief(bed, kill, count=FAULTS, seed=20261122, shortest=1.0, longest=5.0)
    mischief.start()
    deadline = time.monotonic() + 1200
    starts = 0
    while time.monotonic() < deadline:
        starts += 1
        with log.open("ab") as output:
            command = [str(BIN / "codellm-dag"), "demo", "--recipe", "tiny"]
            running.append(
                subprocess.Popen(
                    command, env=project.environment, cwd=project.folder, stdout=output, stderr=output
                )
            )
        if running[-1].wait(timeout=900) == 0:
            break
        assert running[-1].returncode == -9, log.read_text()[-4000:]
    mischief.stop()
    bed.faults.clear()
    print(f"{starts} starts, {mischief.done}, {bed.journal.counts()}")
    assert len(mischief.done) == FAULTS, f"the run was over before all faults were done: {mischief.done}"
    store = Store(project.store)
    assert digests(store) == digests(Store(lifecycle.store))
    assert leaderboard(project) == leaderboard(lifecycle)
    assert project.json("verify")["whole"]
    assert store.backend.children("launches") == []
    assert store.backend.children("messages") == []
    bed.wait(lambda: left_in(project.variables["KUBECONFIG"], "default") == [], 30)
    assert {row.label for row in store.ledger.rows()} <= {"ok", "evicted", "infra", "killed"}
