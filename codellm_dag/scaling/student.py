"""The interval of a mean of few values: Student's t (Student 1908)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev


def mean_interval(values: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Mean of `values` and the interval ``mean ± t s / sqrt(n)``; infinite for one value.

    Raises ValueError for none, or a `confidence` that is not between 0 and 1.
    """
    from scipy.special import stdtrit

    if not values:
        raise ValueError("an interval needs at least one value")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}: allowed: above 0 and below 1")
    mean = fmean(values)
    if len(values) == 1:
        return mean, -math.inf, math.inf
    t = float(stdtrit(len(values) - 1, (1 + confidence) / 2))
    half = t * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half
