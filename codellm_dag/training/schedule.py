"""The learning rate over a run, as a share of its peak."""

from __future__ import annotations

import math
from collections.abc import Callable

from codellm_dag.recipes.training import Batch, Optimizer
from codellm_dag.training.plan import Plan

_POWERS = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}


def learning_rate_factor(step: int, plan: Plan) -> float:
    """What the peak learning rate is multiplied by at `step` (from 0) of a run.

    The share of the peak, times what the batch's growth asks for.
    """
    scale = growth_factor(plan.batch, plan.schedule.at(step).rows)
    return scale * learning_rate_share(step, plan.steps, plan.optimizer, plan.rows_until)


def growth_factor(batch: Batch, rows: int) -> float:
    """What a step of `rows` rows multiplies the learning rate by: with k times the first batch 1, the root of
    k, or k, as ``batch.learning_rate_scaling`` says.
    """
    return (rows / batch.global_rows) ** _POWERS[batch.learning_rate_scaling]


def learning_rate_share(
    step: int, total: int, recipe: Optimizer, rows_until: Callable[[int], int] = int
) -> float:
    """The share of the peak learning rate at `step` (from 0) of `total`.

    Warm-up is linear and reaches the peak in its last step. Then by ``recipe.schedule``: half a cosine, a
    line, or a plateau with a final line, each down to ``final_fraction`` in the last step; or constant.
    Progress counts rows: ``rows_until(n)`` are read in the first n steps, by default one a step. So the
    learning rate at a token is the same, but for rounding to steps, however the batch grows.
    """
    first, rows, done = rows_until(1), rows_until(total), rows_until(step)
    warmup = math.ceil(recipe.warmup_fraction * (rows / first)) * first
    if done < warmup:
        return min(1.0, rows_until(step + 1) / warmup)
    left = max(1, rows_until(total - 1) - warmup)
    progress = min(1.0, (done - warmup) / left)
    if recipe.schedule == "cosine":
        return recipe.final_fraction + (1 - recipe.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
    if recipe.schedule == "linear":
        return 1 - (1 - recipe.final_fraction) * progress
    if recipe.schedule == "warmup_stable_decay":
        into_decay = (progress - (1 - recipe.decay_fraction)) / recipe.decay_fraction
        return 1 - (1 - recipe.final_fraction) * max(0.0, into_decay)
    return 1.0
