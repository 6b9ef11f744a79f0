"""The protocol of advantage estimators: outcome rewards of a rollout batch in, one number a response out.

Estimators that give each token of a response its own advantage (GAE) do not fit this protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RolloutRewards:
    """What an estimator may look at, for n responses.

    ``rewards``: float64 (n,), finite. ``groups``: int64 (n,), equal for responses to the same prompt.
    ``lengths``: int64 (n,), response tokens that are trained on, at least 1.
    """

    rewards: Floats
    groups: Ints
    lengths: Ints

    @classmethod
    def of(cls, rewards: Sequence[float], groups: Sequence[int], lengths: Sequence[int]) -> RolloutRewards:
        """Build from sequences. Raises ValueError for unequal lengths, NaN rewards or empty responses."""
        if not len(rewards) == len(groups) == len(lengths):
            raise ValueError(
                f"rewards ({len(rewards)}), groups ({len(groups)}), lengths ({len(lengths)}) must have one "
                "entry per response each"
            )
        values = np.asarray(rewards, dtype=np.float64)
        tokens = np.asarray(lengths, dtype=np.int64)
        if not np.isfinite(values).all():
            raise ValueError(f"rewards must be finite numbers, not {values[~np.isfinite(values)][0]}")
        if (tokens < 1).any():
            raise ValueError("lengths must be at least 1: a response without tokens has nothing to train on")
        return cls(values, np.asarray(groups, dtype=np.int64), tokens)


class AdvantageEstimator(Protocol):
    """A pure function from the rewards of a batch to advantages."""

    def __call__(self, batch: RolloutRewards) -> Floats:
        """Float64 (n,): the advantage of every token of response i."""
        ...


def group_sums(values: Floats, groups: Ints) -> tuple[Floats, Ints]:
    """For each response, the sum of `values` over its group and the size of its group, both (n,)."""
    _, member, size = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros(len(size), dtype=np.float64)
    np.add.at(sums, member, values)
    return sums[member], size[member].astype(np.int64)
