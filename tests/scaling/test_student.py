"""Student's t against printed tables."""

from __future__ import annotations

import math

import pytest

from codellm_dag.scaling.student import mean_interval, t_quantile


@pytest.mark.parametrize(
    ("confidence", "freedom", "t"),
    [
        (0.95, 1, 12.706),
        (0.95, 2, 4.303),
        (0.99, 3, 5.841),
        (0.9, 4, 2.132),
        (0.95, 9, 2.262),
        (0.99, 30, 2.750),
    ],
)
def test_quantiles_are_those_of_the_tables(confidence: float, freedom: int, t: float) -> None:
    assert t_quantile(confidence, freedom) == pytest.approx(t, abs=6e-4)


def test_the_interval_of_a_mean() -> None:
    # Mean 2, standard deviation 1, t 4.303 of two degrees of freedom: 4.303 / sqrt(3) on either side.
    assert mean_interval([1.0, 2.0, 3.0], 0.95) == pytest.approx((2.0, 2 - 2.4842, 2 + 2.4842), abs=1e-3)
    assert mean_interval([5.0], 0.95) == (5.0, -math.inf, math.inf)
    assert mean_interval([5.0, 5.0], 0.95) == (5.0, 5.0, 5.0)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([], 0.95)
    with pytest.raises(ValueError, match=r"confidence = 1.0, freedom = 3"):
        t_quantile(1.0, 3)
