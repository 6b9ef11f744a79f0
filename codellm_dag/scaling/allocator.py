"""Resident memory on CPUs: what glibc's allocator adds to live tensors.

A block of 32 MiB or more is mapped by itself and given back when it is freed. Freed smaller blocks leave
gaps in the heap, which stay resident: `GAPS` bytes a byte of them. ``bench/memory.py`` measured 1.11 to 1.43
(and 1.8 where they are an eighth of all).
"""

from __future__ import annotations

from codellm_dag.scaling.activations import FLOAT, LOSS_ROWS
from codellm_dag.scaling.memory import Memory, Work
from codellm_dag.scaling.muon import muon_workspace_bytes

LARGE = 32 * 2**20
"""Bytes from which a block is always mapped (DEFAULT_MMAP_THRESHOLD_MAX of glibc's malloc, 64 bits)."""
GAPS = 1.22


def resident_bytes(memory: Memory, work: Work) -> int:
    """Resident bytes where `memory` is of one process on a CPU."""
    large = min(memory.total, _large_bytes(work))
    return round(large + GAPS * (memory.total - large))


def _large_bytes(work: Work) -> int:
    """Bytes in blocks of their own: logits, the kernels' masks, embeddings and Muon's stacks."""
    model, tokens = work.model, work.micro_rows * work.length
    logits = round(tokens * work.targets) * model.vocabulary * FLOAT
    mask = tokens * work.length * FLOAT
    embedding = model.embedding * FLOAT
    stacks = muon_workspace_bytes(model) if work.optimizer == "muon" else 0
    counted = [
        (logits, LOSS_ROWS),
        (mask, 1 if work.checkpointing else model.layers),
        (embedding, 3 if model.tied else 6),  # weight and AdamW's two moments
    ]
    parts = sum(size * count for size, count in counted if size >= LARGE)
    return parts + (stacks if stacks >= 4 * LARGE else 0)
