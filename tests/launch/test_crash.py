"""Killed orchestrators: nothing lives on, nothing half-done is left, and the next run goes on from there."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codellm_dag.launch import InlineLauncher, LocalLauncher, identify, materialize
from codellm_dag.store import Store, content_digest
from tests.support.crash import descendants, is_gone, run_and_kill
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import COUNT, WORDS

ROOT = Path(__file__).resolve().parents[2]
COUNTED = "".join(f"{number}\n" for number in range(30))


def command(store: Store, count: int = 30, seconds: float = 0.05) -> list[str]:
    return [sys.executable, "-m", "tests.support.pipeline", store.url, str(count), str(seconds)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def run(store: Store) -> str:
    done = subprocess.run(
        command(store), env=environment(), cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


def counting(store: Store) -> tuple[subprocess.Popen[bytes], Path]:
    """An orchestrator whose stage has counted to 3 at least, and the folder of its work."""
    recipe = TinyRecipe(count=30, seconds=0.05)
    folder = store.work_root / "work" / identify(COUNT, recipe, {}).fingerprint
    process = subprocess.Popen(
        command(store), env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    state, deadline = folder / "resume/done.txt", time.monotonic() + 60
    while not (state.exists() and int(state.read_text()) >= 3):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    return process, folder


def test_a_killed_orchestrator_takes_its_stage_along_and_the_next_resumes(store: Store) -> None:
    process, folder = counting(store)
    below = descendants(process.pid)
    assert len(below) == 3, "the fork server, the supervisor and the stage"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert all(is_gone(pid) for pid in below)
    assert len(list((folder / "attempts").iterdir())) == 1
    outcome = materialize(store, COUNT, TinyRecipe(count=30, seconds=0.05), {}, launcher=LocalLauncher())
    began_at = outcome.manifest.metrics["began_at"]
    assert isinstance(began_at, int)
    assert began_at >= 3
    assert (store.local_path(outcome.artifact) / "count.txt").read_text() == COUNTED
    killed, finished = store.ledger.of("count", outcome.artifact.fingerprint)
    labels = [killed.label, finished.label]
    assert labels == ["killed", "ok"]
    assert killed.tokens is not None
    assert 1 <= killed.tokens <= began_at, "what it had told of its work"
    assert (finished.tokens, finished.flops) == (30 - began_at, 2.0 * (30 - began_at))
    assert killed.flops == 2.0 * killed.tokens
    assert [cost.label for cost in outcome.manifest.cost] == labels
    steps = [step for step, _ in outcome.manifest.series["square"]]
    assert steps[-1] == 29
    assert steps[0] == 0, "points of the killed attempt are kept"
    assert len(store.attempts("count", outcome.artifact.fingerprint)) == 1
    assert not folder.exists()


def test_ctrl_c_ends_the_stage_and_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    process, folder = counting(store)
    below = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert all(is_gone(pid) for pid in below)
    rows = [row for row in store.ledger.rows() if row.stage == "count"]
    assert [(row.label, row.error) for row in rows] == [("killed", "interrupted")]
    assert list((folder / "attempts").iterdir()) == []


def test_a_killed_stage_is_not_the_end_of_its_work(tmp_path: Path) -> None:
    store = Store(tmp_path)
    process, _ = counting(store)
    stage = descendants(process.pid)[-1]
    os.kill(stage, signal.SIGKILL)
    assert process.wait(30) == 1
    rows = [row for row in store.ledger.rows() if row.stage == "count"]
    assert [row.label for row in rows] == ["killed"]
    outcome = materialize(store, COUNT, TinyRecipe(count=30, seconds=0.05), {}, launcher=LocalLauncher())
    assert int(outcome.manifest.metrics["began_at"]) >= 3


def test_a_killed_attempt_is_told_of_even_if_it_is_never_asked_for_again(store: Store) -> None:
    process, folder = counting(store)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    materialize(store, WORDS, TinyRecipe(count=9), {}, launcher=InlineLauncher())
    rows = [(row.stage, row.label, row.error) for row in store.ledger.rows()]
    assert ("count", "killed", "the orchestrator was killed") in rows
    assert list((folder / "attempts").iterdir()) == []
    assert store.attempts("count", folder.name) == []
    assert (folder / "resume/done.txt").exists(), "what can be resumed stays"


def test_work_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    process, folder = counting(store)
    materialize(store, WORDS, TinyRecipe(count=9), {}, launcher=InlineLauncher())
    assert len(list((folder / "attempts").iterdir())) == 1
    assert process.wait(60) == 0
    assert {row.label for row in store.ledger.rows()} == {"ok"}


KILLED_AFTER_COMMIT = """
import os, signal, sys
from codellm_dag.launch import InlineLauncher, materialize
from codellm_dag.store import Store
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import WORDS
store = Store(sys.argv[1])
store.ledger.add = lambda row: os.kill(os.getpid(), signal.SIGKILL)
materialize(store, WORDS, TinyRecipe(), {}, launcher=InlineLauncher())
"""


def test_killed_between_commit_and_clearing_up(store: Store) -> None:
    """The commit stands; the next request writes the missing row and clears up."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AFTER_COMMIT, store.url], env=environment(), cwd=ROOT, check=False
    )
    assert done.returncode == -signal.SIGKILL
    folder = store.work_root / "work" / identify(WORDS, TinyRecipe(), {}).fingerprint
    assert folder.exists()
    assert store.ledger.rows() == []
    outcome = materialize(store, WORDS, TinyRecipe(), {}, launcher=InlineLauncher())
    assert outcome.decision.action == "reused"
    assert [row.label for row in store.ledger.rows()] == ["ok"]
    assert not folder.exists()
    assert store.verify(outcome.artifact) == []


@pytest.mark.slow
def test_killed_ten_times_ends_like_one_that_was_not(tmp_path: Path) -> None:
    undisturbed = run(Store(tmp_path / "undisturbed"))
    expected = content_digest({"count.txt": hashlib.sha256(COUNTED.encode()).hexdigest()})
    assert undisturbed.split()[0] == expected
    store = Store(tmp_path / "killed")
    killed = run_and_kill(
        command(store), kills=10, shortest=0.3, longest=1.5, seed=7, env=environment(), cwd=ROOT
    )
    assert {"group", "below"} & set(killed)
    assert run(store) == undisturbed
    manifests = list(store.manifests())
    assert len(manifests) == 3
    assert all(store.verify(manifest) == [] for manifest in manifests)
    for manifest in manifests:
        assert store.attempts(manifest.stage, manifest.fingerprint) == [manifest.attempt]
    assert list((tmp_path / "killed/work").iterdir()) == []
    assert {row.label for row in store.ledger} <= {"ok", "killed", "infra"}
