"""Launchers run a stage request somewhere and say how it ended. Here: the protocol and the inline one."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from codellm_dag.stages.request import StageRequest
from codellm_dag.store import Label, Store
from codellm_dag.store.records import now

Handle = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """One attempt. `workspace` is a local folder for log and messages; `env` goes to the stage's process."""

    request: StageRequest
    store: Store
    workspace: Path
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How an attempt ended, as far as the launcher can see; the messages tell the rest."""

    start: datetime
    end: datetime
    hosts: tuple[str, ...]
    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    log: Path | None = None
    printed: str = ""
    """The last lines the stage printed, of a launcher that has no `log`."""
    label: Label | None = None
    """How it ended, as the launcher sees it; `detail` says why. None: the messages and the exit code tell."""
    detail: str = ""


class Launcher(Protocol):
    """Runs one attempt to its end, handing over each Pipes message as it comes."""

    name: str

    def run(self, job: Job, handle: Handle) -> Ended:
        """Block until the attempt has ended. Whatever the stage does, this returns; it raises only when it
        cannot start the attempt (OSError, StoreError) or is interrupted, and then nothing is left running."""
        ...


class InlineLauncher:
    """Runs the stage in this process: for tests and debuggers. Limits and thread counts do not apply."""

    name = "inline"

    def run(self, job: Job, handle: Handle) -> Ended:
        """Run the stage here and now."""
        from codellm_dag.stages.messages import CallChannel, open_session
        from codellm_dag.stages.running import run_request

        start = now()
        ok = run_request(job.request, open_session(CallChannel(handle)))
        return Ended(start=start, end=now(), hosts=(socket.gethostname(),), exit_code=0 if ok else 1)
