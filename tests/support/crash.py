"""SIGKILL at random moments: for tests that a run which was killed ends like one that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, children before grandchildren."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            parents.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        below = parents.get(waiting.pop(0), [])
        found.extend(below)
        waiting.extend(below)
    return found


def is_gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process ends in time; a zombie counts as ended."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def run_and_kill(
    command: Sequence[str],
    *,
    kills: int,
    shortest: float,
    longest: float,
    seed: int,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    share_below: float = 0.3,
) -> list[str]:
    """Start `command` again and again, each time killed after `shortest` … `longest` seconds.

    Mostly the whole process group of the command dies, in `share_below` of the cases one process below it
    (a stage), and then the command is waited for. After each kill of the group nothing below it may live on.
    Returns what was killed each time: ``group``, ``below``, or ``finished`` if the command was too fast.
    """
    dice = random.Random(seed)
    done = []
    for _ in range(kills):
        process = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(dice.uniform(shortest, longest))
            done.append("finished")
            continue
        except subprocess.TimeoutExpired:
            pass
        below = descendants(process.pid)
        if below and dice.random() < share_below:
            _kill(dice.choice(below))
            process.wait(600)
            done.append("below")
        else:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
            done.append("group")
            alive = [pid for pid in below if not is_gone(pid)]
            assert not alive, f"{alive} outlived the command that was killed"
    return done


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
