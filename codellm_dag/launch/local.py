"""Runs a stage as a process of this machine, which dies with us."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codellm_dag.launch.launcher import Ended, Handle, Job
from codellm_dag.stages.messages import FileReader
from codellm_dag.store.records import now

_GRACE = 15.0  # seconds to end after SIGTERM, a little more than the supervisor gives the stage


class LocalLauncher:
    """``python -m codellm_dag.stages.entry`` for each attempt.

    The stage's output goes to a file and its messages to another, so that no pipe can fill up. The process
    watches this one and ends with it, however it ends. `poll_seconds` is how often messages are read.
    """

    name = "local"

    def __init__(self, python: str = sys.executable, poll_seconds: float = 0.1) -> None:
        self.python = python
        self.poll_seconds = poll_seconds

    def run(self, job: Job, handle: Handle) -> Ended:
        """Run one attempt to its end."""
        start = now()
        log = job.workspace / "stage.log"
        request = job.workspace / "request.json"
        reader = FileReader(Path(job.request.messages))
        process = self._start(request, log, job.env)
        try:
            self._follow(process, reader, handle)
        finally:
            _end(process)
        usage = _usage(Path(job.request.messages).with_name("exit.json"))
        code = process.returncode
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

    def _start(self, request: Path, log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        entry = ["-P", "-m", "codellm_dag.stages.entry"]
        command = [self.python, *entry, str(request), "--parent", str(os.getpid())]
        variables = {**os.environ, **env, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
        variables["PYTHONPATH"] = os.pathsep.join(_import_path())
        with log.open("wb") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=variables,
                start_new_session=True,
            )

    def _follow(self, process: subprocess.Popen[bytes], reader: FileReader, handle: Handle) -> None:
        """Hand over messages until the process has ended and all are read."""
        descriptor = os.pidfd_open(process.pid)
        try:
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            while True:
                ended = bool(poller.poll(self.poll_seconds * 1000))
                for message in reader.read():
                    handle(message)
                if ended:
                    return
        finally:
            os.close(descriptor)


def _import_path() -> list[str]:
    """Where this process finds modules, but for what any Python finds by itself."""
    standard = os.path.realpath(Path(os.__file__).parent)
    found = []
    for place in dict.fromkeys(os.path.realpath(entry or ".") for entry in sys.path):
        its_own = place.startswith(standard) or Path(place).name in ("site-packages", "dist-packages")
        if not its_own and Path(place).is_dir():
            found.append(place)
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that the process is gone: asked first, then killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
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
