"""Looks at a running program from outside, through the host's /proc: its clock, and the CPU time and memory
of all its processes together.

Nothing is looked at in the first 0.2 s, so short programs cost nothing. Where /proc shows no children of a
process, only each process by itself is limited; where it shows no run-queue delays, the clock runs plain.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from codellm_dag.sandbox.programs import Limits

_FIRST_LOOK, _EVERY = 0.2, 0.1
_STARVED = 10
"""A program that got no processor for so many times its wall limit is not at fault: the machine is."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Clock:
    """Tells when to look and whether the program must stop: "cpu", "memory", "wall", "starved", or ""."""

    def __init__(self, supervisor: int | None, limits: Limits) -> None:
        self._supervisor = supervisor
        self._limits = limits
        self._started = time.monotonic()
        self._next = self._started + min(_FIRST_LOOK, limits.wall_seconds)

    def until_next_look(self) -> float:
        """Seconds, 0 or more."""
        return max(0.0, self._next - time.monotonic())

    def look(self) -> str:
        """Look if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return ""
        self._next = now + _EVERY
        pids = descendants(self._supervisor) if self._supervisor else []
        if sum(resident_bytes(pid) for pid in pids) > self._limits.memory_bytes:
            return "memory"
        if sum(cpu_seconds(pid) for pid in pids) > self._limits.cpu_seconds:
            return "cpu"
        elapsed = now - self._started
        if elapsed <= self._limits.wall_seconds:
            return ""
        if elapsed - max((waited_seconds(pid) for pid in pids), default=0.0) > self._limits.wall_seconds:
            return "wall"
        return "starved" if elapsed > _STARVED * self._limits.wall_seconds else ""


def only_child(pid: int) -> int | None:
    """The process that `pid` has started, if it can be seen."""
    children = _children(pid)
    return children[0] if len(children) == 1 else None


def descendants(pid: int) -> list[int]:
    """All processes below `pid`; those that end meanwhile may be missing."""
    found, queue = [], [pid]
    while queue:
        children = _children(queue.pop())
        found += children
        queue += children
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            found += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    except OSError:
        return found
    return found


def resident_bytes(pid: int) -> int:
    """Resident memory of a process that is not shared with the supervisor's image; 0 if it has ended."""
    fields = _read(f"/proc/{pid}/statm").split()
    return max(0, int(fields[1]) - int(fields[2])) * _PAGE if len(fields) > 2 else 0


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of its children that it has waited for; 0 if it is gone."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS if len(fields) > 14 else 0.0


def waited_seconds(pid: int) -> float:
    """How long the process was ready to run and got no processor; 0 if unknown."""
    fields = _read(f"/proc/{pid}/schedstat").split()
    return int(fields[1]) / 1e9 if len(fields) > 1 else 0.0


def oom_kills() -> int:
    """How often the kernel has killed a process of this machine because memory ran out; 0 if unknown."""
    for line in _read("/proc/vmstat").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
