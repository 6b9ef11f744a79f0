"""Confidence intervals for means over problems and ratios over documents.

The unit that is resampled is the problem (or document), not the sample: samples of one problem are not
independent (Miller 2024, "Adding Error Bars to Evals"). Which interval is used:

- every problem's score is 0 or 1 (one sample a problem, or an all-zero or perfect result): Wilson's score
  interval on the number of problems. It is never empty, also at 0 and 1.
- else: percentile bootstrap over problems, seeded. It keeps to [0, 1] and needs no normality.
- every problem has the same score strictly between 0 and 1: the bootstrap would be empty; Wilson again.

Intervals cover the choice of problems and the sampling of programs, not the training run: another training
seed may fall outside. Below about 20 problems the bootstrap is too narrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_CHUNK = 1 << 22
"""Resampled indices held at once (32 MiB)."""


@dataclass(frozen=True)
class Interval:
    """``low <= value <= high`` and the name of the method; None where one unit allows no interval."""

    low: float | None
    high: float | None
    method: str


def wilson(successes: float, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval for a proportion ``successes / n`` (Wilson 1927).

    Raises ValueError unless ``0 <= successes <= n`` and n is at least 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"wilson needs 0 <= successes <= n and n >= 1, not {successes} of {n}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    # At 0 and n the exact bounds are 0 and 1; rounding could leave them just beside.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == n else min(1.0, centre + half)


def bootstrap_ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """Percentile bootstrap of ``sum(numerators) / sum(denominators)`` over units drawn with replacement.

    A mean is the ratio with denominators 1. Raises ValueError for no units or a denominator not above 0.
    """
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if not len(top) or len(top) != len(bottom) or (bottom <= 0).any():
        raise ValueError("the bootstrap needs at least one unit, and a denominator above 0 for each")
    rng = np.random.Generator(np.random.PCG64(seed))
    per_chunk = max(1, _CHUNK // len(top))
    ratios = []
    for start in range(0, resamples, per_chunk):
        drawn = rng.integers(0, len(top), size=(min(per_chunk, resamples - start), len(top)))
        ratios.append(top[drawn].sum(1) / bottom[drawn].sum(1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return float(low), float(high)


def interval_of_mean(scores: Sequence[float], *, confidence: float, resamples: int, seed: int) -> Interval:
    """The interval of the mean of one score in [0, 1] per problem; the rule is in the module's docstring."""
    if not scores:
        raise ValueError("an interval needs at least one problem")
    binary = all(score in (0.0, 1.0) for score in scores)
    if binary or min(scores) == max(scores):
        low, high = wilson(float(sum(scores)), len(scores), confidence)
        return Interval(low, high, "Wilson score interval over problems")
    low, high = bootstrap_ratio(
        scores, [1.0] * len(scores), confidence=confidence, resamples=resamples, seed=seed
    )
    return Interval(low, high, f"percentile bootstrap over problems ({resamples} resamples, seed {seed})")


def interval_of_ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> Interval:
    """The interval of a ratio of sums over documents; none (None) when there is one document only."""
    if len(numerators) < 2:
        return Interval(None, None, "none: one document")
    low, high = bootstrap_ratio(
        numerators, denominators, confidence=confidence, resamples=resamples, seed=seed
    )
    return Interval(low, high, f"percentile bootstrap over documents ({resamples} resamples, seed {seed})")
