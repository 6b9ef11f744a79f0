"""Process 1 of a cell: forks one locked-down child per program, ends it, cleans up, reports how it ended.

It never reads a byte of a program or of its results: those travel between the child and the outside through
descriptors that the supervisor only passes on, so nothing of one program is left in the memory that the next
one is forked from. A program cannot forge what is reported here: it cannot signal process 1 of its own PID
namespace, trace it, or reach its descriptors.

One order is one message with four descriptors: request, result, stdout, stderr; and for programs that read
standard input a fifth. Orders and reports are small JSON objects on the channel, which comes in as
descriptor 0; the end of the channel is the end of the cell. While a program runs, a message means "stop it".
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120

import lockdown  # pyright: ignore[reportMissingImports]
import program  # pyright: ignore[reportMissingImports]
import seccomp  # pyright: ignore[reportMissingImports]

SCRATCH = "/scratch"
_REQUEST, _RESULT, _READY = 60, 61, 62
"""Descriptors of a child, high so that a program's own low numbers do not meet them by accident."""
_MNT_DETACH, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 2, 4, 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]


class Scratch:
    """The program's only writable folder: a small tmpfs, replaced between programs."""

    def __init__(self) -> None:
        self.mounted = False

    def renew(self, disk: int, uid: int, gid: int) -> None:
        """Throw the old folder away with everything in it and mount an empty one of `disk` bytes."""
        self.drop()
        options = f"size={disk},nr_inodes=4096,mode=0700,uid={uid},gid={gid}".encode()
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        lockdown.check(_libc.mount(b"tmpfs", SCRATCH.encode(), b"tmpfs", flags, options), "mount scratch")
        self.mounted = True

    def drop(self) -> None:
        """Unmount the folder; its memory is freed at once, as no process is left to use it."""
        if self.mounted:
            lockdown.check(_libc.umount2(SCRATCH.encode(), _MNT_DETACH), "unmount scratch")
            self.mounted = False


def serve(channel: socket.socket, uid: int, gid: int) -> None:
    """Run programs as `uid`:`gid` until the channel ends."""
    filter_ = seccomp.build()
    scratch = Scratch()
    channel.send(json.dumps({"hello": os.getpid()}).encode())
    while True:
        message, descriptors, _flags, _address = socket.recv_fds(channel, 65536, 8)
        if not message:
            return
        if not descriptors:
            continue  # a stop that came too late: its program has ended
        report = _run(channel, json.loads(message), descriptors, scratch, uid, gid, filter_)
        channel.send(json.dumps(report).encode())


def _run(
    channel: socket.socket,
    order: dict[str, Any],
    descriptors: list[int],
    scratch: Scratch,
    uid: int,
    gid: int,
    filter_: Any,
) -> dict[str, Any]:
    scratch.renew(order["limits"]["disk"], uid, gid)
    ready_read, ready_write = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _child(order, descriptors, ready_write, uid, gid, filter_)
    os.close(ready_write)
    for descriptor in descriptors:
        os.close(descriptor)
    stopped = _watch(channel, pid, order["cpu_seconds"])
    status, cpu, memory = _end_all(pid)
    ready = os.read(ready_read, 4096).decode("utf-8", "replace")
    os.close(ready_read)
    scratch.drop()
    wall = time.monotonic() - started
    return {
        "id": order["id"],
        "ready": ready,
        "status": status,
        "stopped": stopped,
        "cpu": cpu,
        "wall": wall,
        "rss": memory * 1024,
    }


def _watch(channel: socket.socket, pid: int, cpu_seconds: float) -> str:
    """Wait until the program ends ("") or must be stopped: "cpu", or "order" from outside."""
    exited = os.pidfd_open(pid)
    clock = (~pid << 3) | 2  # the CPU clock of a process, as clock_getcpuclockid(3) makes it
    poll = select.poll()
    poll.register(exited, select.POLLIN)
    poll.register(channel, select.POLLIN)
    try:
        while True:
            left = cpu_seconds - _cpu_time(clock)
            if left <= 0:
                return "cpu"
            ready = dict(poll.poll(max(20.0, left * 1000 / (os.cpu_count() or 1))))
            if exited in ready:
                return ""
            if channel.fileno() in ready:
                if not channel.recv(64):
                    os._exit(0)  # the outside is gone, and with process 1 all of the cell
                return "order"
    finally:
        os.close(exited)


def _cpu_time(clock: int) -> float:
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0  # the process has just ended; the poll that follows says so


def _end_all(pid: int) -> tuple[int, float, int]:
    """Kill every process of the cell but this one; wait status of `pid`, CPU seconds and peak KiB of all."""
    status, cpu, memory = -1, 0.0, 0
    # If the program has ended its status is final; whatever it left behind dies here, at one stroke: a
    # process that has a fatal signal pending cannot fork.
    while True:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        try:
            ended, ended_status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return status, cpu, memory
        cpu += usage.ru_utime + usage.ru_stime
        memory = max(memory, usage.ru_maxrss)
        if ended == pid:
            status = ended_status


def _child(
    order: dict[str, Any], descriptors: list[int], ready: int, uid: int, gid: int, filter_: Any
) -> None:
    """The forked child: never returns."""
    request, result, stdout, stderr, *stdin = descriptors
    try:
        os.dup2(ready, _READY)
        os.setsid()
        if stdin:
            os.dup2(stdin[0], 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.dup2(request, _REQUEST)
        os.dup2(result, _RESULT)
        os.closerange(3, _REQUEST)
        os.closerange(_READY + 1, 256)
        lockdown.lock_down(order["limits"], uid, gid, filter_)
        os.chdir(SCRATCH)  # as the program's user: the supervisor may not enter
    except BaseException as error:
        os.write(_READY, f"{type(error).__name__}: {error}".encode()[:4000])
        os._exit(1)
    os.write(_READY, b"ready")
    os.close(_READY)
    gc.enable()
    program.run(_REQUEST, _RESULT)
    os._exit(0)


def main() -> None:
    """Start: become deaf to signals, hide the harness, preload modules, serve."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)  # which process 1 ignores, and its children do not
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    channel = socket.socket(fileno=os.dup(0))
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    uid, gid = int(sys.argv[1]), int(sys.argv[2])
    program.preload()
    sys.path.pop(0)
    sys.argv = ["program.py"]
    lockdown.check(_libc.umount2(b"/harness", _MNT_DETACH), "unmount /harness")
    gc.collect()
    gc.disable()
    gc.freeze()
    serve(channel, uid, gid)


if __name__ == "__main__":
    main()
