"""The orchestrator's side of `codellm_dag.stages.forkserver`: starts the server, and stages through it."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import codellm_dag

_CODE = Path(codellm_dag.__file__).parent
_LARGEST_ORDER = 1 << 20
_READ_WHEN_LOADED = (
    *("ACCELERATE_", "CUDA_", "HF_", "LD_", "MALLOC_", "MKL_", "NUMEXPR_", "OMP_", "OPENBLAS_", "PYTHON"),
    *("TOKENIZERS_", "TORCH", "TRANSFORMERS_"),
)
"""Variables that libraries read once, when they are loaded: another value needs another server."""


class StageProcess:
    """A watcher and its stage, started by `server`. `pid` is the watcher's."""

    def __init__(self, server: ForkServer, answers: int) -> None:
        self._server = server  # a server that is replaced ends when its last stage has
        self._answers = os.fdopen(answers, "rb")
        line = self._answers.readline()
        if not line:
            self._answers.close()
            raise OSError("the fork server ended before it had started the stage")
        self.pid = int(line)
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it has ended, waiting at most `timeout` seconds (None: until it ends)."""
        if self.returncode is not None:
            return True
        poller = select.poll()
        poller.register(self._answers, select.POLLIN)
        if not poller.poll(None if timeout is None else timeout * 1000):
            return False
        line = self._answers.readline()
        # No line: the server was killed, and the watcher and its stage with it.
        self.returncode = int(line) if line else -signal.SIGKILL
        self._answers.close()
        return True

    def signal(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        # The server reaps it and tells us in one go, so until we are told the number can hardly be another's.
        if not self.wait(0):
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


class ForkServer:
    """One running server. Raises OSError where it cannot be started."""

    def __init__(self, python: str, env: Mapping[str, str]) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST_ORDER)
        self._lock = threading.Lock()
        self._code = _stamp()
        self._owner = os.getpid()
        with theirs:
            self._process = subprocess.Popen(
                [python, "-P", "-m", "codellm_dag.stages.forkserver"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=dict(env),
                start_new_session=True,
            )

    @property
    def usable(self) -> bool:
        """Whether it lives, is ours (not a fork's parent's), and no code was changed since its start."""
        return self._owner == os.getpid() and self._process.poll() is None and self._code == _stamp()

    def start(
        self, request: Path, log: Path, env: Mapping[str, str], packages: Sequence[str]
    ) -> StageProcess:
        """Start one stage. Raises OSError when the server is gone."""
        order = json.dumps({"request": str(request), "env": dict(env), "packages": list(packages)}).encode()
        answers, theirs = os.pipe()
        try:
            with log.open("wb") as output, self._lock:
                socket.send_fds(self._channel, [order], [output.fileno(), theirs])
        except OSError:
            os.close(answers)
            raise
        finally:
            os.close(theirs)
        return StageProcess(self, answers)


_servers: dict[tuple[str, ...], ForkServer] = {}
_servers_lock = threading.Lock()


def fork_server(python: str, env: Mapping[str, str]) -> ForkServer:
    """This process' server for `python` and what libraries read of `env`; it ends with this process."""
    read = (f"{name}={value}" for name, value in env.items() if name.startswith(_READ_WHEN_LOADED))
    key = (python, *sorted(read))
    with _servers_lock:
        server = _servers.get(key)
        if server is None or not server.usable:
            server = _servers[key] = ForkServer(python, env)
        return server


def _stamp() -> int:
    """Time of the last change of our own code, which the server must not be older than."""
    return max(path.stat().st_mtime_ns for path in _CODE.rglob("*.py"))
