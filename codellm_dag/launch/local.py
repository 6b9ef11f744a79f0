"""Runs a stage as a process of this machine, which dies with us."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codellm_dag.launch.forkserver import StageProcess, fork_server
from codellm_dag.launch.launcher import Ended, Handle, Job
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.entry import thread_variables
from codellm_dag.stages.messages import FileReader
from codellm_dag.store.records import now

_GRACE = 15.0  # seconds to end after SIGTERM, a little more than the supervisor gives the stage


class LocalLauncher:
    """A process of its own for each attempt, forked by a server that has loaded the libraries already.

    The stage's output goes to a file and its messages to another, so that no pipe can fill up. The process
    watches the server, which ends with this one, however it ends. `poll_seconds` is how often messages are
    read.
    """

    name = "local"

    def __init__(self, python: str = sys.executable, poll_seconds: float = 0.1) -> None:
        self.python = python
        self.poll_seconds = poll_seconds

    def run(self, job: Job, handle: Handle) -> Ended:
        """Run one attempt to its end."""
        start = now()
        log = job.workspace / "stage.log"
        reader = FileReader(Path(job.request.messages))
        env = stage_environment(job.request.runtime, job.env)
        server = fork_server(self.python, env)
        process = server.start(job.workspace / "request.json", log, env, list(job.request.packages))
        try:
            self._follow(process, reader, handle)
        finally:
            _end(process)
        usage = _usage(Path(job.request.messages).with_name("exit.json"))
        code = process.returncode or 0
        return Ended(
            start=start,
            end=now(),
            hosts=(socket.gethostname(),),
            exit_code=usage.get("exit_code", code),
            signal=usage.get("signal", -code if code < 0 else None),
            out_of_memory=usage.get("out_of_memory", False),
            cpu_seconds=usage.get("cpu_seconds"),
            peak_memory_bytes=usage.get("peak_memory_bytes"),
            log=log,
        )

    def _follow(self, process: StageProcess, reader: FileReader, handle: Handle) -> None:
        """Hand over messages until the process has ended and all are read."""
        ended = False
        while not ended:
            ended = process.wait(self.poll_seconds)
            for message in reader.read():
                handle(message)


def stage_environment(runtime: Runtime, own: Mapping[str, str]) -> dict[str, str]:
    """All variables of a stage's process: ours, `own`, and what makes it fast and repeatable."""
    defaults = {
        # Threads that wait asleep: where something else wants a core too, spinning costs thrice the CPU time.
        "OMP_WAIT_POLICY": "PASSIVE",
        # Freed memory is kept: every training step asks for the same again, and page faults are not free.
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    }
    fixed = {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(_import_path())}
    return {**defaults, **os.environ, **own, **fixed, **thread_variables(runtime)}


def _import_path() -> list[str]:
    """Where this process finds modules, but for what any Python finds by itself."""
    standard = os.path.realpath(Path(os.__file__).parent)
    found = []
    for place in dict.fromkeys(os.path.realpath(entry or ".") for entry in sys.path):
        its_own = place.startswith(standard) or Path(place).name in ("site-packages", "dist-packages")
        if not its_own and Path(place).is_dir():
            found.append(place)
    return found


def _end(process: StageProcess) -> None:
    """Make sure that the process is gone: asked first, then killed."""
    if not process.wait(0):
        process.signal(signal.SIGTERM)
        if not process.wait(_GRACE):
            process.signal(signal.SIGKILL)
    process.wait()


def _usage(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}


def tail(path: Path | None, lines: int = 20, limit: int = 4000) -> str:
    """The last lines of a log, at most `limit` characters; empty if there is none."""
    if path is None:
        return ""
    try:
        with path.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 4 * limit))
            text = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])[-limit:]
