"""SIGKILL at ten random moments, then once more in peace: the same numbers as a run nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.lifecycle.conftest import BIN, Project

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("lifecycle")]

KILLS = 10


def digests(project: Project) -> dict[str, str]:
    """Content digest of every artifact by stage and fingerprint."""
    manifests = sorted(Path(project.store).glob("artifacts/*/*/manifest.json"))
    loaded = [json.loads(path.read_text()) for path in manifests]
    return {f"{m['stage']}/{m['fingerprint']}": m["content_digest"] for m in loaded}


def children(pid: int) -> list[int]:
    """Process ids of all descendants."""
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    direct = [int(word) for word in listed.read_text().split()] if listed.exists() else []
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
    undisturbed = digests(lifecycle)
    project, dice, killed = Project(tmp_path), random.Random(20261121), 0
    while killed < KILLS:
        process = start(project)
        time.sleep(dice.uniform(2.0, 9.0))
        if process.poll() is not None:
            break
        # One time in three it is a stage that dies under a living orchestrator, else the orchestrator itself.
        below = children(process.pid)
        victim = dice.choice(below) if below and dice.random() < 1 / 3 else process.pid
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed += 1
        if victim != process.pid:
            process.wait(timeout=600)
        else:
            process.wait(timeout=30)
            gone_by = time.monotonic() + 10
            while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < gone_by:
                time.sleep(0.1)
            assert not [pid for pid in below if Path(f"/proc/{pid}").exists()], (
                "a stage outlived its orchestrator"
            )
    assert killed == KILLS, f"the run ended after {killed} kills: it is too short for this test"
    project.run("demo", "--recipe", "tiny")
    assert digests(project) == undisturbed
    project.run("verify")
