"""Ports for what must be told one before it listens; elsewhere, let it listen on port 0.

A port that the kernel picks is free again until it is used, and the kernel may give it to any socket
meanwhile. These are below those that it picks from; each worker of a test run has a range of its own, where
it begins anywhere, since another test run may be under way on this machine.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_FIRST = 20000
_EACH = 1000  # ports of a worker
_WORKERS = 8
_PICKED_FROM = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port that nothing listens on; this process gets each one once.

    Raises OSError where all of this worker's are given or in use.
    """
    for port in _own():
        if _is_free(port):
            return port
    raise OSError(f"no port is free from {ports_of_worker()}")


def ports_of_worker(name: str | None = None) -> range:
    """The ports of the pytest-xdist worker `name` (``gw0``, ``gw1``, ...), by default of this one."""
    name = os.environ.get("PYTEST_XDIST_WORKER", "gw0") if name is None else name
    start = _FIRST + int(name.removeprefix("gw")) % _WORKERS * _EACH
    return range(start, start + _EACH)


def picked_by_kernel() -> range:
    """The ports that the kernel gives to sockets that ask for any."""
    low, high = map(int, _PICKED_FROM.read_text().split())
    return range(low, high + 1)


@cache
def _own() -> Iterator[int]:
    ports = ports_of_worker()
    begin = random.SystemRandom().randrange(len(ports))
    return iter([port for port in [*ports[begin:], *ports[:begin]] if port not in picked_by_kernel()])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
