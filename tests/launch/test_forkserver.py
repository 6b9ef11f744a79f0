"""Stages forked from one server: what they share, what they do not, and how the server ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codellm_dag.launch import LocalLauncher, StageFailedError, forkserver, materialize
from codellm_dag.store import Store
from tests.support.crash import is_gone
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import COUNT, PROCESS


def facts(folder: Path, text: str) -> dict:
    store = Store(folder)
    outcome = materialize(store, PROCESS, TinyRecipe(text=text), {}, launcher=LocalLauncher())
    return json.loads((store.local_path(outcome.artifact) / "_volatile/facts.json").read_text())


def test_libraries_are_shared_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODELLM_TEST_VARIABLE", "first")
    first = facts(tmp_path, "a")
    monkeypatch.setenv("CODELLM_TEST_VARIABLE", "second")
    second = facts(tmp_path, "b")
    assert first["server"] == second["server"] != os.getpid()
    assert (first["variable"], second["variable"]) == ("first", "second")
    assert second["pyarrow"], "a declared package is loaded before the fork"
    assert second["own_code"] == [], "our own rooms are not"
    assert not [name for name in second["files"] if name.startswith("socket:")]
    assert len([name for name in second["files"] if "pidfd" in name]) == 1, "the watcher's look at the server"
    # stdout and stderr are the log; the messages are written to another file
    assert len([name for name in second["files"] if name.endswith("stage.log")]) == 2
    assert not [name for name in second["files"] if name.startswith("pipe:")]


def test_what_libraries_read_when_loaded_needs_another_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = facts(tmp_path, "a")
    monkeypatch.setenv("HF_HUB_VERBOSITY", "error")
    assert facts(tmp_path, "b")["server"] != first["server"]
    monkeypatch.delenv("HF_HUB_VERBOSITY")
    assert facts(tmp_path, "c")["server"] == first["server"]


def test_changed_code_needs_another_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "room.py").write_text("A = 1\n")
    monkeypatch.setattr(forkserver, "_CODE", code)
    first = facts(tmp_path / "store", "a")
    assert facts(tmp_path / "store", "b")["server"] == first["server"]
    stamp = (code / "room.py").stat().st_mtime + 5
    os.utime(code / "room.py", (stamp, stamp))
    assert facts(tmp_path / "store", "c")["server"] != first["server"]


def test_a_killed_server_takes_its_stage_along_and_is_replaced(tmp_path: Path) -> None:
    first = facts(tmp_path, "a")["server"]
    os.kill(first, signal.SIGKILL)
    assert is_gone(first)
    second = facts(tmp_path, "b")["server"]
    assert second != first

    def kill(event) -> None:
        if event.type == "progress":
            os.kill(second, signal.SIGKILL)

    with pytest.raises(StageFailedError, match="was killed") as caught:
        materialize(
            Store(tmp_path),
            COUNT,
            TinyRecipe(count=100, seconds=0.1),
            {},
            launcher=LocalLauncher(),
            on_event=kill,
        )
    assert caught.value.label == "killed"
    assert facts(tmp_path, "c")["server"] not in (first, second)


def test_the_server_ends_with_its_orchestrator(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.launch.test_forkserver import facts; "
        "print(facts(Path(sys.argv[1]), 'x')['server'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert is_gone(int(done.stdout))
