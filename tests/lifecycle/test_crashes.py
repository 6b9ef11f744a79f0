"""SIGKILL at ten random moments, then once more in peace: the same numbers as a run nobody disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.lifecycle.conftest import BIN, Project

pytestmark = pytest.mark.slow

KILLS = 10


def children(pid: int) -> list[int]:
    """Process ids of all descendants."""
    direct = [int(word) for word in read(f"/proc/{pid}/task/{pid}/children").split()]
    return direct + [below for child in direct for below in children(child)]


def start(project: Project) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(BIN / "codellm-dag"), "demo", "--recipe", "tiny"],
        env=project.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def test_killed_ten_times_ends_with_the_same_numbers(lifecycle: Project, tmp_path: Path) -> None:
    undisturbed = lifecycle.undisturbed
    dice, killed, finished = random.Random(20261121), 0, 0
    project, process = Project(tmp_path / "0"), None
    while killed < KILLS:
        if (
            process is not None and process.poll() == 0
        ):  # done in spite of the kills: go on with an empty store
            assert project.digests() == undisturbed
            finished += 1
            project, process = Project(tmp_path / str(finished)), None
        if process is None or process.poll() is not None:
            project.folder.mkdir(exist_ok=True)
            process = start(project)
        time.sleep(dice.uniform(2.0, 6.5))
        killed += kill_something(process, dice)
    process.wait(timeout=600)
    project.run("demo", "--recipe", "tiny")
    assert project.digests() == undisturbed
    assert project.json("verify")["whole"]


def kill_something(process: subprocess.Popen[bytes], dice: random.Random) -> int:
    """SIGKILL to the orchestrator, or one time in three to a process of its stage; how many died of it."""
    below = children(process.pid)
    victim = dice.choice(below) if below and dice.random() < 1 / 3 else process.pid
    if process.poll() is not None:
        return 0
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    if victim == process.pid:
        process.wait(timeout=30)
        gone_by = time.monotonic() + 20
        while alive(below) and time.monotonic() < gone_by:
            time.sleep(0.1)
        assert not alive(below), "a stage outlived its orchestrator"
    return 1


def alive(pids: list[int]) -> list[int]:
    """Those that still run; a zombie that nobody has waited for does not."""
    return [pid for pid in pids if (stat := read(f"/proc/{pid}/stat")) and ") Z" not in stat]


def read(path: str) -> str:
    """A file of /proc; empty if its process is gone."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
