"""``python -m codellm_dag.stages.forkserver``: forks stage processes from one that holds the heavy libraries.

Importing PyTorch and transformers takes longer than many a small stage; here it is done once. Only outside
libraries are loaded before the fork: a stage's own code is imported in its process, as it is on disk then.
This process never runs any of it and ends, with all it started, when its orchestrator does. Its client is
`codellm_dag.launch.forkserver`; in a pod a stage is started without it (`entry.py`).

Descriptor 0 is a socket. One message is one order: JSON with ``request`` (path), ``env`` (all variables of
the stage's process) and ``packages`` (what to load before the fork), and two descriptors: the stage's log and
a pipe, on which the watcher's pid is written at once and its exit code at its end, a line each.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterable
from typing import Any

from codellm_dag.stages import entry

LIBRARIES = {
    "pyarrow": ("pyarrow.parquet",),
    "numpy": ("numpy",),
    "tokenizers": ("tokenizers",),
    "torch": ("torch",),
    "transformers": ("transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto"),
    "accelerate": ("accelerate", "transformers.trainer"),
}
"""Modules to load for a declared package of a stage."""

_LARGEST_ORDER = 1 << 20


class Server:
    """Takes orders from `channel` until it is closed."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.running: dict[int, tuple[int, int]] = {}  # pidfd → pid, pipe to its orchestrator
        self.poller = select.poll()
        self.poller.register(channel, select.POLLIN)

    def serve(self) -> None:
        """Fork for each order, tell of each end."""
        while True:
            for descriptor, _ in self.poller.poll():
                if descriptor == self.channel.fileno():
                    if not self._take():
                        return
                else:
                    self._tell_end(descriptor)

    def _take(self) -> bool:
        """Carry out one order; False at the end of the channel."""
        message, descriptors, _, _ = socket.recv_fds(self.channel, _LARGEST_ORDER, 2)
        if not message:
            return False
        order = json.loads(message)
        log, pipe = descriptors
        load(order["packages"])
        pid = os.fork()
        if pid == 0:
            self._become_watcher(order, log, pipe)
        os.close(log)
        self._write(pipe, pid)
        watched = os.pidfd_open(pid)
        self.running[watched] = (pid, pipe)
        self.poller.register(watched, select.POLLIN)
        return True

    def _tell_end(self, watched: int) -> None:
        pid, pipe = self.running.pop(watched)
        self.poller.unregister(watched)
        _, status = os.waitpid(pid, 0)
        self._write(pipe, os.waitstatus_to_exitcode(status))
        os.close(pipe)
        os.close(watched)

    @staticmethod
    def _write(pipe: int, number: int) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(pipe, f"{number}\n".encode())

    def _become_watcher(self, order: dict[str, Any], log: int, pipe: int) -> None:
        """The forked child: the process that `entry.main` describes. Never returns."""
        code = 70
        try:
            server = os.getppid()
            os.setsid()
            nothing = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((nothing, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            # The channel was descriptor 0. No pipe may stay open here: its end is how others see an end.
            for descriptor in {
                *self.running,
                *(other for _, other in self.running.values()),
                pipe,
                log,
                nothing,
            }:
                os.close(descriptor)
            self.channel.detach()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.environ.clear()
            os.environ.update(order["env"])
            code = entry.main([order["request"], "--parent", str(server)])
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def load(packages: Iterable[str]) -> None:
    """Import what `packages` need; what cannot be loaded fails later, in the stage, with its own words."""
    names = [name for package in packages for name in LIBRARIES.get(package, ()) if name not in sys.modules]
    if not names:
        return
    for name in names:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that collections in the children do not copy these pages


def main() -> None:
    """Serve on descriptor 0."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Server(socket.socket(fileno=0)).serve()
    os._exit(0)  # at once, without unloading the libraries: stages end when this process does


if __name__ == "__main__":
    main()
