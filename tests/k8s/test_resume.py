"""What the values rest on: run monitoring resumes a run of our executor after its worker was killed.

Dagster's own commands are run, as its Kubernetes run launcher runs them in pods. The resumed worker executes
every step again, in the same run; ours find what was committed in the store, and their pods by name.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus, in_process_executor, serialize_value
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._grpc.types import ExecuteRunArgs, ResumeRunArgs

from codellm_dag.definitions import defs


def test_our_executor_is_the_one_that_is_resumed_here():
    assert defs.executor is in_process_executor


@pytest.fixture
def instance(tmp_path, monkeypatch):
    """An instance with one slot in the pool that the toys take."""
    for name in ("home", "marks"):
        (tmp_path / name).mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TOY_MARKS", str(tmp_path / "marks"))
    with DagsterInstance.get() as instance:
        instance.event_log_storage.set_concurrency_slots("gpu", 1)
        yield instance


def worker(command: str, arguments: ExecuteRunArgs | ResumeRunArgs) -> subprocess.Popen[bytes]:
    """A run's worker, as the run launcher starts it."""
    words = [sys.executable, "-m", "dagster", "api", command, serialize_value(arguments)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_run_whose_worker_was_killed_is_resumed_and_keeps_its_slot(instance, tmp_path):
    repository = ReconstructableRepository.for_file(str(Path(__file__).with_name("toy_assets.py")), "defs")
    job = ReconstructableJob(repository, "toys")
    origin, marks = job.get_python_origin(), tmp_path / "marks"
    run = instance.create_run_for_job(job.get_definition(), job_code_origin=origin)
    killed = worker("execute_run", ExecuteRunArgs(origin, run.run_id, instance.get_ref()))
    deadline = time.monotonic() + 60
    while not (marks / "second").exists():
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    killed.kill()
    killed.wait()
    (marks / "go").touch()
    resumed = worker("resume_run", ResumeRunArgs(origin, run.run_id, instance.get_ref()))
    assert resumed.wait(timeout=60) == 0
    assert instance.get_run_by_id(run.run_id).status == DagsterRunStatus.SUCCESS
    assert [(marks / name).read_text() for name in ("first", "second")] == ["xx", "xx"]
