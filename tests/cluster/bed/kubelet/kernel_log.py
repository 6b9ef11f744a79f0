"""Did the kernel kill a container for want of memory? From its log: podman does not say on cgroup v1."""

from __future__ import annotations

import os
import time


def killed_for_memory(container: str, seconds: float = 2.0) -> bool:
    """Whether the kernel log tells of an out-of-memory kill in the container's group, now or in a moment."""
    deadline = time.monotonic() + seconds
    while True:
        if any("oom-kill:" in line and f"libpod-{container}" in line for line in _lines()):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def _lines() -> list[str]:
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return []
    found = []
    try:
        while True:
            try:
                found.append(os.read(descriptor, 1 << 14).decode("utf-8", "replace"))
            except BlockingIOError:
                return found
            except BrokenPipeError:
                continue  # older records were overwritten while we read
    finally:
        os.close(descriptor)
