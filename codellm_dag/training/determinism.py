"""Running PyTorch so that the same input gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.utils.deterministic as memory


@contextmanager
def deterministic() -> Iterator[None]:
    """Refuse operators without a deterministic implementation; settings are put back at the end."""
    enabled = torch.are_deterministic_algorithms_enabled()
    fill = memory.fill_uninitialized_memory  # pyright: ignore[reportAttributeAccessIssue]
    torch.use_deterministic_algorithms(True)
    # Filling every new tensor is a debugging aid and costs time.
    memory.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled)
        memory.fill_uninitialized_memory = fill  # pyright: ignore[reportAttributeAccessIssue]
