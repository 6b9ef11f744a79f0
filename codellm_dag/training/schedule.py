"""The learning rate over a run, as a share of its peak."""

from __future__ import annotations

import math

from codellm_dag.recipes.training import Optimizer


def learning_rate_share(step: int, total: int, recipe: Optimizer) -> float:
    """The share of the peak learning rate at `step` (from 0) of `total`.

    Warm-up is linear and reaches the peak in its last step. Then by ``recipe.schedule``: half a cosine, a
    line, or a plateau with a final line, each down to ``final_fraction`` in the last step; or constant.
    """
    warmup = math.ceil(recipe.warmup_fraction * total)
    if step < warmup:
        return (step + 1) / warmup
    left = max(1, total - warmup - 1)
    progress = min(1.0, (step - warmup) / left)
    if recipe.schedule == "cosine":
        return recipe.final_fraction + (1 - recipe.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
    if recipe.schedule == "linear":
        return 1 - (1 - recipe.final_fraction) * progress
    if recipe.schedule == "warmup_stable_decay":
        into_decay = (progress - (1 - recipe.decay_fraction)) / recipe.decay_fraction
        return 1 - (1 - recipe.final_fraction) * max(0.0, into_decay)
    return 1.0
