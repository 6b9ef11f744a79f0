"""One cell: a bubblewrap sandbox whose supervisor runs one program at a time, and its keeper outside.

The keeper (this class, in the trusted process) hands a program over through descriptors, reads what it
writes, bounds it, holds the clock and the memory of all its processes together, and turns what the supervisor
reports into an `Execution`. One thread owns a cell from start to close: bubblewrap dies with that thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import select
import socket
import subprocess
import tempfile
import threading
import time
from typing import Any

from codellm_dag.sandbox import confinement, watch
from codellm_dag.sandbox.errors import CellLostError, SandboxUnavailableError
from codellm_dag.sandbox.programs import Execution, Limits, Program
from codellm_dag.sandbox.results import Ending, make_execution
from codellm_dag.sandbox.selfcheck import PROBE, faults

_START_SECONDS = 60.0
_ANSWER_SECONDS = 20.0
"""How long the supervisor may take to end a program that must stop: it has its processes to reap."""
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Cell:
    """A running cell. Raises SandboxUnavailableError if it cannot be started.

    When `closing` is set a running program is given up within a moment.
    """

    def __init__(self, closing: threading.Event | None = None) -> None:
        self._closing = closing or threading.Event()
        plan = confinement.plan()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._number = 0
        try:
            self._process = self._start(plan, theirs)
        except OSError as error:
            self._channel.close()
            self._errors.close()
            raise SandboxUnavailableError(confinement.explain_failure(str(error))) from error
        finally:
            theirs.close()
        self._await_hello()
        self.supervisor = watch.only_child(self._process.pid)
        """Process id of process 1 of the cell, as this machine sees it; None if /proc does not tell."""
        self._check()

    def _start(self, plan: confinement.Confinement, theirs: socket.socket) -> subprocess.Popen[bytes]:
        user: dict[str, Any] = (
            {} if plan.become is None else {"user": plan.become, "group": plan.become, "extra_groups": []}
        )
        return subprocess.Popen[bytes](
            plan.command,
            stdin=theirs.fileno(),  # the supervisor's channel
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            **user,
        )

    def _await_hello(self) -> None:
        self._channel.settimeout(_START_SECONDS)
        try:
            hello = self._channel.recv(4096)
        except OSError:
            hello = b""
        if not hello:
            self._end()
            self._errors.seek(0)
            said = self._errors.read().decode("utf-8", "replace")
            self.close()
            raise SandboxUnavailableError(confinement.explain_failure(said))
        self._channel.settimeout(None)

    def _check(self) -> None:
        """Refuse to use a cell in which a wall does not stand."""
        assert PROBE.limits is not None
        try:
            found = faults(self.run(PROBE, PROBE.limits))
        except CellLostError as error:
            found = [str(error)]
        if found:
            self.close()
            raise SandboxUnavailableError(
                f"the sandbox does not confine programs on this machine: {'; '.join(found)}. "
                "See docs/sandbox.md for what it needs"
            )

    def run(self, program: Program, limits: Limits) -> Execution:
        """Run one program. Raises CellLostError if the cell failed; close it then and use another."""
        self._number += 1
        run = _Run(self._channel, self.supervisor, self._number, program, limits, self._closing)
        return run.execute()

    def close(self) -> None:
        """End the cell and everything in it. Safe to call twice."""
        self._end()
        self._errors.close()

    def _end(self) -> None:
        self._channel.close()
        try:
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Run:
    """One program in one cell: the descriptors, what has been read, and why it was stopped."""

    def __init__(
        self,
        channel: socket.socket,
        supervisor: int | None,
        number: int,
        program: Program,
        limits: Limits,
        closing: threading.Event,
    ) -> None:
        self._closing = closing
        self._channel = channel
        self._supervisor = supervisor
        self._number = number
        self._program = program
        self._limits = limits
        self._nonce = secrets.token_hex(8)
        self._read: dict[int, bytearray] = {}
        self._stopped = ""
        self._deadline: float | None = None

    def execute(self) -> Execution:
        oom_kills = watch.oom_kills()
        pipes = [os.pipe() for _ in range(3)]
        theirs = [write for _, write in pipes]
        ours = [read for read, _ in pipes]
        self._read = {descriptor: bytearray() for descriptor in ours}
        try:
            try:
                self._hand_over(theirs)
            finally:
                for descriptor in theirs:
                    os.close(descriptor)
            for descriptor in ours:
                os.set_blocking(descriptor, False)
            report = self._attend()
            for descriptor in ours:
                self._drain(descriptor)
        finally:
            for descriptor in ours:
                os.close(descriptor)
        ending = Ending(
            report=report,
            stopped=self._stopped or report["stopped"],
            results=bytes(self._read[ours[0]]),
            stdout=bytes(self._read[ours[1]]),
            stderr=bytes(self._read[ours[2]]),
            nonce=self._nonce,
            machine_killed=watch.oom_kills() != oom_kills,
        )
        return make_execution(self._program, self._limits, ending)

    def _hand_over(self, theirs: list[int]) -> None:
        program = self._program
        calls = [
            {
                "entry_point": call.entry_point,
                "args": list(call.args),
                "kwargs": dict(call.kwargs),
                "show_arguments": call.show_arguments,
                "view": call.view,
            }
            for call in program.calls
        ]
        request = {"nonce": self._nonce, "mode": program.mode, "source": program.source, "calls": calls}
        order = {
            "id": self._number,
            "limits": self._limits.as_order(),
            "cpu_seconds": self._limits.cpu_seconds,
        }
        files = [_sealed(json.dumps(request).encode("ascii"))]
        if program.mode != "calls":
            files.append(_sealed(program.stdin.encode("utf-8", "surrogateescape")))
        try:
            socket.send_fds(self._channel, [json.dumps(order).encode()], [files[0], *theirs, *files[1:]])
        except OSError as error:
            raise CellLostError(f"the cell does not take orders: {error}") from error
        finally:
            for descriptor in files:
                os.close(descriptor)

    def _attend(self) -> dict[str, Any]:
        """Read and watch until the supervisor reports the program's end."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        for descriptor in self._read:
            poll.register(descriptor, select.POLLIN)
        clock = watch.Clock(self._supervisor, self._limits)
        while True:
            for descriptor, _event in poll.poll(1000 * clock.until_next_look()):
                if descriptor == self._channel.fileno():
                    return self._receive()
                if self._drain(descriptor):
                    poll.unregister(descriptor)
            if self._closing.is_set():
                raise CellLostError("the sandbox was closed")
            if self._deadline is None:
                self._stop(clock.look())
            elif time.monotonic() > self._deadline:
                raise CellLostError("the supervisor does not end its program")

    def _receive(self) -> dict[str, Any]:
        try:
            message = self._channel.recv(65_536)
        except OSError as error:
            raise CellLostError(f"the cell is gone: {error}") from error
        if not message:
            raise CellLostError("the cell is gone")
        report = json.loads(message)
        if report.get("id") != self._number:
            raise CellLostError("the cell reports on another program")
        return report

    def _drain(self, descriptor: int) -> bool:
        """Read what is there; True at the end of the stream. Beyond the limit: stop the program."""
        buffer = self._read[descriptor]
        while True:
            try:
                chunk = os.read(descriptor, 65_536)
            except BlockingIOError:
                return False
            if not chunk:
                return True
            room = self._limits.output_bytes - len(buffer)
            buffer += chunk[:room] if room > 0 else b""
            if len(chunk) > room:
                self._stop("output")
                return True  # and read no more of it

    def _stop(self, reason: str) -> None:
        if not reason or self._stopped:
            return
        self._stopped = reason
        self._deadline = time.monotonic() + _ANSWER_SECONDS
        with contextlib.suppress(OSError):
            self._channel.send(b"stop")


def _sealed(data: bytes) -> int:
    """A descriptor of an unnamed file that holds `data`, at its start, that nobody can change."""
    descriptor = os.memfd_create("program", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
