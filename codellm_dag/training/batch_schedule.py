"""How large the global batch of every step is: one size, or one that grows over training (batch warm-up).

A batch may grow when the critical batch size has: Merrill et al. 2025 (arXiv:2505.23971) double it when the
critical one has grown to twice it. Places of growth are counted in tokens, padding too, so they do not depend
on the batch sizes before them; the size changes in the first step that begins at or after its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.training import Batch


@dataclass(frozen=True)
class Stretch:
    """Steps of one size: from step `step` (from 0), before which `row` rows are read, `rows` rows each.

    ``micro_rows``: rows of one forward pass of one process; 0 where that is not known yet.
    """

    step: int
    row: int
    rows: int
    micro_rows: int = 0


@dataclass(frozen=True)
class BatchSchedule:
    """``steps`` optimiser steps, cut into stretches of one batch size; the first begins at step 0."""

    steps: int
    stretches: tuple[Stretch, ...]

    @property
    def rows(self) -> int:
        """Rows that all steps read."""
        return self.rows_until(self.steps)

    def at(self, step: int) -> Stretch:
        """The stretch of `step`, counted from 0; of a step after the end the last."""
        return next(stretch for stretch in reversed(self.stretches) if stretch.step <= step)

    def rows_until(self, step: int) -> int:
        """Rows that the first `step` steps read; steps after the end are as large as the last."""
        stretch = self.at(step)
        return stretch.row + (step - stretch.step) * stretch.rows


def batch_schedule(
    batch: Batch, rows: float, length: int, whole: Callable[[float], int] = math.floor
) -> BatchSchedule:
    """The schedule of a run of about `rows` rows of `length` tokens; `whole` rounds its last steps.

    Without warm-up that is ``whole(rows / batch.global_rows)`` steps, which may be 0. Raises
    InvalidRecipeError, with the field's name, where a batch size would have no step.
    """
    sizes = [batch.global_rows, *(stage.global_rows for stage in batch.warmup)]
    places = [
        math.ceil(stage.tokens / length if stage.tokens else round(stage.share * rows, 6))
        for stage in batch.warmup
    ]
    stretches, step, row = [], 0, 0
    for number, size in enumerate(sizes):
        last = number == len(places)
        steps = whole((rows - row) / size) if last else -((row - places[number]) // size)
        if places and (steps < 1 or (last and row >= rows)):
            field = f"batch.warmup.{number - 1}" if number else "batch"
            raise InvalidRecipeError(
                f"{field}.global_rows = {size}: no step of {size} rows of {length} tokens fits between "
                f"token {row * length} and token {round(rows if last else places[number]) * length}; move "
                "the stages of batch.warmup apart or train on more tokens"
            )
        stretches.append(Stretch(step, row, size))
        step, row = step + steps, row + steps * size
    return BatchSchedule(step, tuple(stretches))
