"""Commits under fire: several at once, and killed at random moments."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from codellm_dag.store import Hit, Store, digest
from tests.support.committer import commit
from tests.support.stores import publish

ROOT = Path(__file__).resolve().parents[2]


def start(store: Store, text: str, folder: Path, name: str, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.committer", store.url, text]
    return subprocess.Popen(
        [*command, str(folder / f"ready-{name}"), str(folder / "go"), *more],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(*paths: Path) -> None:
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        assert time.monotonic() < deadline, "the processes did not start"
        time.sleep(0.01)


def test_processes_that_commit_at_once_leave_one_winner(store: Store, tmp_path: Path) -> None:
    count = 4
    processes = [start(store, "race", tmp_path, str(index)) for index in range(count)]
    wait_for(*(tmp_path / f"ready-{index}" for index in range(count)))
    (tmp_path / "go").touch()
    answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert len({winner for winner, _ in answers}) == 1
    assert sorted(ours for _, ours in answers) == ["False"] * (count - 1) + ["True"]
    found = store.lookup("made", digest({"stage": "made", "text": "race"}))
    assert isinstance(found, Hit)
    assert store.verify(found.manifest) == []
    assert (store.local_path(found.artifact) / "who.txt").read_text() == answers[0][0]
    assert store.attempts("made", found.artifact.fingerprint) == [answers[0][0]]


def test_threads_that_repair_at_once_leave_one_winner(store: Store) -> None:
    """Four find the same damage; no repair may undo another."""
    artifact = publish(store, "race")
    manifest = store.manifest(artifact)
    store.backend.delete(f"artifacts/made/{artifact.fingerprint}/attempts/{manifest.attempt}/data.txt")
    answers: list[tuple[str, bool]] = []
    barrier = threading.Barrier(4)

    def repair() -> None:
        own = Store(store.url)
        own.backend.children("artifacts")
        barrier.wait()
        answers.append(commit(own, "race"))

    threads = [threading.Thread(target=repair) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({winner for winner, _ in answers}) == 1
    assert sorted(ours for _, ours in answers) == [False, False, False, True]
    found = store.lookup("made", artifact.fingerprint)
    assert isinstance(found, Hit)
    assert store.verify(found.manifest) == []
    assert store.attempts("made", artifact.fingerprint) == [found.manifest.attempt]


def test_a_repair_between_look_and_swap_is_not_undone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = publish(store, "race")
    broken = store.manifest(artifact)
    store.backend.delete(f"artifacts/made/{artifact.fingerprint}/attempts/{broken.attempt}/data.txt")
    rival, look = Store(store.url), store._examine
    rivals: list[tuple[str, bool]] = []

    def look_and_lose(*arguments: str):
        found = look(*arguments)
        if not rivals:
            rivals.append(commit(rival, "race"))
        return found

    monkeypatch.setattr(store, "_examine", look_and_lose)
    winner, ours = commit(store, "race")
    assert rivals == [(winner, True)]
    assert not ours
    assert store.attempts("made", artifact.fingerprint) == [winner]
    assert store.verify(artifact) == []


def test_conditional_create_has_one_winner_every_time(store: Store) -> None:
    own = [Store(store.url).backend for _ in range(4)]
    for backend in own:
        backend.children("")
    for turn in range(10):
        barrier, winners = threading.Barrier(4), []

        def create(index: int, turn: int = turn, barrier=barrier, winners=winners) -> None:
            barrier.wait()
            if own[index].create(f"contended/{turn}", str(index).encode() * 5000):
                winners.append(index)

        threads = [threading.Thread(target=create, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(winners) == 1
        assert store.backend.read(f"contended/{turn}") == str(winners[0]).encode() * 5000


def test_swap_only_replaces_what_was_expected(store: Store) -> None:
    backend = store.backend
    assert not backend.swap("x", b"new", b"old")
    backend.put("x", b"old")
    assert backend.swap("x", b"new", b"old")
    assert not backend.swap("x", b"newer", b"old")
    assert backend.read("x") == b"new"


@pytest.mark.parametrize("seed", range(4))
def test_killed_while_committing(store: Store, tmp_path: Path, seed: int) -> None:
    """SIGKILL at a random moment: each artifact is whole or not there, and can be committed again."""
    process = start(store, "killed", tmp_path, "0", "repeat")
    wait_for(tmp_path / "ready-0")
    (tmp_path / "go").touch()
    time.sleep(0.01 + random.Random(seed).random() * 0.3)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    committed = list(store.manifests())
    assert all(store.verify(manifest) == [] for manifest in committed)
    stages = set(store.backend.children("artifacts/made"))
    assert len(stages - {manifest.fingerprint for manifest in committed}) <= 1
    for number in range(len(committed) + 1):
        artifact = publish(store, f"killed-{number}")
        assert isinstance(store.lookup("made", artifact.fingerprint), Hit)
        assert store.verify(artifact) == []


def test_a_disk_without_hard_links_still_commits_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    store = Store(tmp_path)
    first = publish(store, "x", {"a": "first"})
    assert publish(store, "x", {"a": "second"}) == first
    assert (store.local_path(first) / "a").read_text() == "first"
