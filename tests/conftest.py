"""For all tests: an interrupt is an interrupt, also where the suite was started with SIGINT ignored; threads
that wait sleep, as in the stages' own processes.
"""

from __future__ import annotations

import gc
import os
import signal

import pytest

# A shell without job control starts what it puts into the background with SIGINT ignored, as a CI runner may.
# Python then installs no handler, and children inherit that: tests that interrupt would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# OpenMP reads it when PyTorch is imported, here and in what tests start. Threads that spin while they wait
# take the time of those they wait for: two test workers on two cores then need twice the CPU time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_configure(config: pytest.Config) -> None:
    """Let workers take files in the order of collection; xdist would begin with those of the most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Leave what is imported out of garbage collections: see `tests.support.frozen`."""
    gc.collect()
    gc.freeze()
