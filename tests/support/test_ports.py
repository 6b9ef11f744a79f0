"""A port that is given is free, is given once, and is none that the kernel or another worker gives away."""

from __future__ import annotations

import socket

import pytest

from tests.support import ports


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ports of a worker of its own, so that this process' stay."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw7")
    monkeypatch.setattr(ports, "_own", ports._own.__wrapped__)
    own = ports._own()
    monkeypatch.setattr(ports, "_own", lambda: own)


def test_each_is_given_once_from_the_worker_s_own() -> None:
    given = [ports.free_port() for _ in range(50)]
    assert len(set(given)) == 50
    assert set(given) <= set(ports.ports_of_worker("gw7"))
    assert not set(given) & set(ports.picked_by_kernel())


def test_workers_share_none() -> None:
    first, second, last = (set(ports.ports_of_worker(f"gw{number}")) for number in (0, 1, 7))
    assert not first & second
    assert not second & last
    assert len(first) == len(last) == 1000


def test_one_in_use_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, free = ports.free_port(), ports.free_port()
    own = iter([taken, free])
    monkeypatch.setattr(ports, "_own", lambda: own)
    with socket.create_server(("", taken)):
        assert ports.free_port() == free
        with pytest.raises(OSError, match=r"no port is free from range\(27000, 28000\)"):
            ports.free_port()
