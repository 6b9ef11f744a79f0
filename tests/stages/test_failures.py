"""Labels of failures."""

from __future__ import annotations

import errno

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.stages.failures import Diverged, GateMissed, OverBudget, label_of
from codellm_dag.store import StoreError


class OutOfMemoryError(RuntimeError):
    """Named like PyTorch's."""


class DistBackendError(RuntimeError):
    """Named like PyTorch's."""


class Evicted(Exception):
    label = "evicted"


class Odd(Exception):
    label = "fine"


class Ok(Exception):
    label = "ok"


@pytest.mark.parametrize(
    ("error", "label"),
    [
        (MemoryError(), "oom"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "oom"),
        (RuntimeError("CUDA error: out of memory"), "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "oom"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom"),
        (ValueError("out of memory is only a word here"), "error"),
        (Diverged("nan"), "diverged"),
        (OverBudget("x"), "over_budget"),
        (GateMissed("x"), "gate_missed"),
        (Evicted(), "evicted"),
        (Odd(), "error"),
        (Ok(), "error"),
        (InvalidRecipeError("x"), "invalid_recipe"),
        (ConnectionResetError(), "infra"),
        (TimeoutError(), "infra"),
        (StoreError("x"), "infra"),
        (OSError(errno.ENOSPC, "No space left on device"), "infra"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:537] Connection closed by peer [10.0.0.7]:4021"), "infra"),
        (DistBackendError("watchdog timeout"), "infra"),
        (FileNotFoundError("x"), "error"),
        (ValueError("x"), "error"),
        (KeyboardInterrupt(), "killed"),
    ],
)
def test_labels(error: BaseException, label: str) -> None:
    assert label_of(error) == label
