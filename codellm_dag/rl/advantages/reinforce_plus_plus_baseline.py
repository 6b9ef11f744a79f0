"""REINFORCE++ with a group baseline: reward minus group mean, then whitened over all response tokens.

Hu et al. 2025, "REINFORCE++"; numbers of verl's ``compute_reinforce_plus_plus_baseline_outcome_advantage``.
Mean and variance weigh each response by its tokens, the variance has Bessel's correction over tokens, 1e-8 is
added to the variance, and a response that is alone in its group has the baseline 0.
"""

from __future__ import annotations

import numpy as np

from codellm_dag.rl.advantages.base import Floats, RolloutRewards, group_sums

VARIANCE_EPSILON = 1e-8
"""Added to the variance before the root, as in verl's ``masked_whiten``."""


def reinforce_plus_plus_baseline(batch: RolloutRewards) -> Floats:
    """``A_i = (d_i - mean) / sqrt(var + 1e-8)`` with ``d_i = r_i - group mean``; statistics over tokens.

    A batch of fewer than two tokens has no variance and gets 0.
    """
    sums, sizes = group_sums(batch.rewards, batch.groups)
    centred = np.where(sizes > 1, batch.rewards - sums / sizes, batch.rewards)
    tokens = int(batch.lengths.sum())
    if tokens < 2:
        return np.zeros_like(centred)
    mean = float((centred * batch.lengths).sum()) / tokens
    variance = float((np.square(centred - mean) * batch.lengths).sum()) / (tokens - 1)
    return (centred - mean) / np.sqrt(variance + VARIANCE_EPSILON)
