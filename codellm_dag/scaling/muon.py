"""What Muon (`training.optimizer.MuonAdamW`) holds: one momentum a matrix of the blocks, AdamW's two for the
rest, and the scratch space of the Newton-Schulz steps, which are batched over matrices of one shape.
"""

from __future__ import annotations

from collections import Counter

from codellm_dag.training.architecture import Architecture

_FLOAT = 4
_COPIES = 4
"""A group's matrices at once: the stack, its normalized form, the new iterate, the last group's result."""


def muon_state_bytes(model: Architecture) -> int:
    """4 bytes a parameter of the blocks' matrices, 8 a parameter of everything else."""
    matrices = sum(count * rows * columns for (rows, columns), count in _shapes(model).items())
    return _FLOAT * matrices + 2 * _FLOAT * (model.parameters - matrices)


def muon_workspace_bytes(model: Architecture) -> int:
    """Scratch space of the largest group, with two products [rows, rows] a matrix beside the copies."""
    return max(
        _FLOAT * count * (_COPIES * rows * columns + 2 * rows * rows)
        for (rows, columns), count in _shapes(model).items()
    )


def _shapes(model: Architecture) -> Counter[tuple[int, int]]:
    """How many matrices the blocks have of each shape (shorter side first)."""
    wide, narrow, experts = model.attention_width, model.kv_width, max(1, model.experts)
    shapes: Counter[tuple[int, int]] = Counter()
    for rows, columns, count in (
        (wide, model.hidden, 2),
        (narrow, model.hidden, 2),
        (model.intermediate, model.hidden, 3 * experts),
        (model.experts, model.hidden, 1 if model.experts else 0),
    ):
        if count:
            shapes[min(rows, columns), max(rows, columns)] += count * model.layers
    return shapes
