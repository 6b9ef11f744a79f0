"""A small process that watches over a stage: nothing the stage started outlives it or the orchestrator.

Linux only (pidfd, prctl). The watcher is the stage's parent and a subreaper, so that even daemons that left
the stage's process group become its children and are found.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 10.0
"""Seconds between SIGTERM and SIGKILL, where nothing else is asked for."""
ORCHESTRATOR_GONE = 71
"""Exit code when the orchestrator died; nobody reads it."""


@dataclass(frozen=True)
class Usage:
    """How a stage's process ended and what it took, its waited-for children included."""

    exit_code: int
    signal: int | None
    out_of_memory: bool
    cpu_seconds: float
    peak_memory_bytes: int

    def to_json(self) -> bytes:
        """As one JSON object."""
        return json.dumps(asdict(self)).encode()


class Companion(Protocol):
    """What this process does beside the stage, in threads of its own, since it forks no more."""

    def start(self) -> None:
        """Begin; the stage's process has been forked. Must return at once."""
        ...

    def finish(self, usage: Usage) -> None:
        """The stage and all it started have ended."""
        ...


def supervise(
    body: Callable[[], int],
    orchestrator: int | None,
    grace_seconds: float = GRACE_SECONDS,
    companion: Companion | None = None,
) -> Usage:
    """Run `body` in a fork, in a process group of its own, and clean up after it.

    `orchestrator` is the pid that must stay this process' parent; None watches nobody. SIGTERM and SIGINT
    are passed on to the stage's group, SIGKILL follows after `grace_seconds`.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    watched = _open_parent(orchestrator)
    before = _oom_kills()
    with _scratch_folder():
        watcher = os.getpid()
        stage = os.fork()
        if stage == 0:
            _become_stage(body, watcher)
        try:
            if companion is not None:
                companion.start()
            ended = _wait(stage, watched, grace_seconds)
        finally:
            _kill_descendants(stage)
        usage = _usage(ended, before) if ended is not None else None
        if companion is not None and usage is not None:
            companion.finish(usage)
    if usage is None:
        os._exit(ORCHESTRATOR_GONE)
    return usage


def _usage(ended: tuple[int, resource.struct_rusage], oom_kills_before: int) -> Usage:
    status, usage = ended
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    return Usage(
        exit_code=128 + ended_by if ended_by else os.waitstatus_to_exitcode(status),
        signal=ended_by,
        out_of_memory=ended_by == signal.SIGKILL and _oom_kills() > oom_kills_before,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_memory_bytes=usage.ru_maxrss * 1024,
    )


def _become_stage(body: Callable[[], int], watcher: int) -> None:
    code = 70
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != watcher:  # it died before the kernel knew our wish
            os._exit(ORCHESTRATOR_GONE)
        os.setpgid(0, 0)
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, signal.SIG_DFL)
        code = body()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)  # no teardown: libraries that crash while unloading must not spoil a finished stage


def _open_parent(orchestrator: int | None) -> int | None:
    if orchestrator is None:
        return None
    with contextlib.suppress(ProcessLookupError):
        watched = os.pidfd_open(orchestrator)
        if os.getppid() == orchestrator:
            return watched
    os._exit(ORCHESTRATOR_GONE)


def _wait(stage: int, watched: int | None, grace_seconds: float) -> tuple[int, resource.struct_rusage] | None:
    """Wait for the stage; None if the orchestrator died meanwhile. Passes signals on."""
    asked: list[float] = []

    def ask(number: int, _frame: object) -> None:
        asked.append(time.monotonic())
        _signal_group(stage, number)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, ask)
    poller = select.poll()
    poller.register(os.pidfd_open(stage), select.POLLIN)
    if watched is not None:
        poller.register(watched, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poller.poll(1000)}
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        while pid not in (0, stage):  # an orphan that came to us
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid == stage:
            return status, usage
        if watched in ready:
            return None
        if asked and time.monotonic() - asked[0] > grace_seconds:
            _signal_group(stage, signal.SIGKILL)


def _signal_group(leader: int, number: int) -> None:
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(leader, number)


def _kill_descendants(stage: int) -> None:
    """Kill what is left of the stage's group, then every orphan that came to us, until there is none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(stage, signal.SIGKILL)
    for _ in range(200):
        children = _children()
        for child in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not children:
            return
        time.sleep(0.01)


def _children() -> list[int]:
    own = os.getpid()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # "pid (name) state ppid …"; the name may hold spaces and brackets
                if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == own:
                    found.append(int(folder.name))
    return found


@contextlib.contextmanager
def _scratch_folder() -> Iterator[None]:
    """A TMPDIR for the stage that goes with it (short, since socket paths hold 108 bytes)."""
    folder = tempfile.mkdtemp(prefix="codellm-")
    os.environ["TMPDIR"] = folder
    tempfile.tempdir = None
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _oom_kills() -> int:
    """How often the kernel killed for want of memory in our control group; 0 where that cannot be read."""
    for path in _memory_event_files():
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = path.read_text().splitlines()
            return int(next(line for line in lines if line.startswith("oom_kill ")).split()[1])
    return 0


def _memory_event_files() -> Iterator[Path]:
    base = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield base / path.lstrip("/") / "memory.events"
            elif "memory" in controllers.split(","):
                yield base / "memory" / path.lstrip("/") / "memory.oom_control"
    yield base / "memory.events"
    yield base / "memory" / "memory.oom_control"


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
