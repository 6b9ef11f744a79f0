"""Student's intervals against printed tables."""

from __future__ import annotations

import math

import pytest

from codellm_dag.scaling.student import mean_interval


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
def test_intervals_have_the_quantiles_of_the_tables(confidence: float, freedom: int, t: float) -> None:
    values = [float(number) for number in range(freedom + 1)]
    n = len(values)
    deviation = math.sqrt(n * (n + 1) / 12)  # of 0, 1, …, n - 1
    mean, low, high = mean_interval(values, confidence)
    assert mean == (n - 1) / 2
    assert (mean - low) * math.sqrt(n) / deviation == pytest.approx(t, abs=6e-4)
    assert high - mean == pytest.approx(mean - low)


def test_one_value_tells_no_interval_and_equal_values_an_empty_one() -> None:
    assert mean_interval([5.0], 0.95) == (5.0, -math.inf, math.inf)
    assert mean_interval([5.0, 5.0], 0.95) == (5.0, 5.0, 5.0)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([], 0.95)
    with pytest.raises(ValueError, match=r"confidence = 1.0: allowed"):
        mean_interval([1.0, 2.0], 1.0)
