"""The interval of a mean of few values: Student's t (Student 1908), without a statistics package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev


def mean_interval(values: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Mean of `values` and the interval ``mean ± t s / sqrt(n)``; infinite for one value.

    Raises ValueError for none.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    mean = fmean(values)
    if len(values) == 1:
        return mean, -math.inf, math.inf
    half = t_quantile(confidence, len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def t_quantile(confidence: float, freedom: int) -> float:
    """t with P(|T| <= t) = `confidence` for T of Student's distribution, by bisection to 1e-10 of its size.

    ``0 < confidence < 1``, `freedom` at least 1; raises ValueError for others.
    """
    if not 0 < confidence < 1 or freedom < 1:
        raise ValueError(
            f"confidence = {confidence}, freedom = {freedom}: allowed: above 0 and below 1; at least 1"
        )
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """P(|T| <= t): the finite sums of Abramowitz and Stegun 1964, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for k in range(2 + odd, freedom - 1, 2):
        term *= (k - 1) / k * cosine * cosine
        total += term
    if not odd:
        return sine * total
    return 2 / math.pi * (angle + (sine * total if freedom > 1 else 0.0))
