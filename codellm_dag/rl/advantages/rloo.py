"""RLOO: reward minus the mean reward of the other responses to the same prompt.

Ahmadian et al. 2024, "Back to Basics: Revisiting REINFORCE Style Optimization". Same numbers as verl's
``compute_rloo_outcome_advantage``, in which a response that is alone in its group has the baseline 0.
"""

from __future__ import annotations

import numpy as np

from codellm_dag.rl.advantages.base import Floats, RolloutRewards, group_sums


def rloo(batch: RolloutRewards) -> Floats:
    """``A_i = r_i - sum of the others / (size - 1)``; ``r_i`` for a group of one."""
    sums, sizes = group_sums(batch.rewards, batch.groups)
    others = np.maximum(sizes - 1, 1)
    return np.where(sizes > 1, batch.rewards - (sums - batch.rewards) / others, batch.rewards)
