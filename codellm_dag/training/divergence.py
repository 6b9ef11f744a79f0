"""Losses that go wrong: how they are noticed, and which rows are left out after going back.

Everything follows from the losses of the run and its recipe, never from the clock or from where it was
killed: a run that is reproduced, or resumed in the midst of it, goes back at the same steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev

import numpy as np

from codellm_dag.recipes.training_options import Divergence


class Diverging(Exception):
    """Step `step` went wrong, as `reason` says; raised in every process, before anything is saved."""

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason


@dataclass(frozen=True)
class Rollback:
    """The run went back from `step` to `back_to` for `reason`, and left out `rows` rows from `row` on.

    `row` counts the rows that were read before, those left out earlier not among them.
    """

    step: int
    back_to: int
    row: int
    rows: int
    reason: str


def trouble(before: Sequence[float], loss: float, gradient_norm: float, recipe: Divergence) -> str:
    """What is wrong with a step, or nothing. ``before``: the losses of all steps before it, in nats."""
    for name, value in (("loss", loss), ("grad_norm", gradient_norm)):
        if not math.isfinite(value):
            return f"{name} is {value}"
    window = before[-recipe.spike_window :]
    if not recipe.spike_deviations or len(window) < max(2, recipe.spike_window // 2):
        return ""
    mean, deviation = fmean(window), stdev(window)
    if loss <= mean + recipe.spike_deviations * deviation:
        return ""
    return (
        f"loss is {loss:.4g}, more than spike_deviations = {recipe.spike_deviations:g} standard deviations "
        f"of {deviation:.2g} above {mean:.4g}, the mean of the {len(window)} steps before"
    )


def without_skipped(order: np.ndarray, rollbacks: Sequence[Rollback]) -> np.ndarray:
    """`order` of rows without those that rollbacks left out, which it must hold in addition."""
    for rollback in rollbacks:
        order = np.delete(order, np.s_[rollback.row : rollback.row + rollback.rows])
    return order


def to_text(rollbacks: Sequence[Rollback]) -> str:
    """For a file of a checkpoint."""
    return json.dumps([asdict(rollback) for rollback in rollbacks])


def from_text(text: str) -> list[Rollback]:
    """What `to_text` wrote."""
    return [Rollback(**values) for values in json.loads(text)]
