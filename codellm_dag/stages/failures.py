"""How a failed stage is labelled: by its exception, or by how its process ended.

A stage says so itself by raising an exception whose class has an attribute ``label``, such as the ones here.
"""

from __future__ import annotations

import errno
from typing import get_args

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.store.errors import StoreError
from codellm_dag.store.manifest import Label

LABELS: tuple[str, ...] = get_args(Label)
_INFRA_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOLCK}
)
_LOST_GROUP = ("connection closed by peer", "connection reset by peer", "nccl", "gloo", "socket timeout")
_DISTRIBUTED = ("DistBackendError", "DistNetworkError", "DistStoreError", "DistError")
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


class Diverged(RuntimeError):
    """Training cannot be saved: the loss is not finite, or above its limit."""

    label = "diverged"


class OverBudget(RuntimeError):
    """The stage used up its budget (device time, tokens, retries) before it was done."""

    label = "over_budget"


class GateMissed(RuntimeError):
    """A stage's own gate was missed, e.g. a reference solution failed."""

    label = "gate_missed"


def label_of(error: BaseException) -> Label:
    """The label of an attempt that ended with `error`.

    ``infra`` is what another attempt can cure: connections, time-outs, a full disk. Everything that has no
    label of its own is ``error``, the stage's own fault, and is not retried.
    """
    own = getattr(error, "label", None)
    if isinstance(own, str) and own in LABELS and own != "ok":
        return own  # type: ignore[return-value]
    if isinstance(error, InvalidRecipeError):
        return "invalid_recipe"
    if _is_out_of_memory(error):
        return "oom"
    if isinstance(error, (KeyboardInterrupt,)):
        return "killed"
    if is_lost_group(error):
        return "infra"
    if isinstance(error, (ConnectionError, TimeoutError, StoreError)):
        return "infra"
    if isinstance(error, OSError) and error.errno in _INFRA_ERRNOS:
        return "infra"
    return "error"


def is_lost_group(error: BaseException) -> bool:
    """Whether PyTorch says that another process of the group, or the way to it, is gone."""
    if type(error).__name__ in _DISTRIBUTED:
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _LOST_GROUP)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _NO_MEMORY)
