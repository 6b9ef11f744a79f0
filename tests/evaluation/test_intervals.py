"""Intervals against published values, exact small cases and coverage by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from codellm_dag.evaluation.intervals import (
    bootstrap_ratio,
    interval_of_mean,
    interval_of_ratio,
    wilson,
)

KNOBS = {"confidence": 0.95, "resamples": 2000, "seed": 0}


def test_wilson_equals_published_values():
    # Newcombe 1998, table I, method 3 (score without continuity correction).
    for successes, n, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson(successes, n, 0.95) == pytest.approx((low, high), abs=5e-5)
    assert wilson(0, 20, 0.95) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(29, 29, 0.95) == pytest.approx((0.8830, 1.0), abs=5e-5)


def test_wilson_bounds_solve_its_equation():
    # Both bounds p satisfy |x/n - p| = z sqrt(p (1 - p) / n).
    for bound in wilson(7, 40, 0.95):
        assert abs(7 / 40 - bound) == pytest.approx(1.959964 * (bound * (1 - bound) / 40) ** 0.5, rel=1e-6)


def test_bootstrap_of_a_mean_approaches_the_exact_quantiles():
    # Three units: all 27 resamples enumerated give the exact bootstrap distribution.
    units = [0.0, 0.3, 0.9]
    exact = np.array([sum(draw) / 3 for draw in itertools.product(units, repeat=3)])
    low, high = bootstrap_ratio(units, [1, 1, 1], confidence=0.8, resamples=20_000, seed=3)
    assert (low, high) == pytest.approx(
        tuple(np.quantile(exact, [0.1, 0.9], method="inverted_cdf")), abs=1e-12
    )


def test_bootstrap_is_seeded_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch):
    values = list(np.random.default_rng(1).random(50))
    knobs = {"confidence": 0.95, "resamples": 500}
    first = bootstrap_ratio(values, [1.0] * 50, seed=0, **knobs)
    assert bootstrap_ratio(values, [1.0] * 50, seed=0, **knobs) == first
    assert bootstrap_ratio(values, [1.0] * 50, seed=1, **knobs) != first
    monkeypatch.setattr("codellm_dag.evaluation.intervals._CHUNK", 1000)
    assert bootstrap_ratio(values, [1.0] * 50, seed=0, **knobs) == first


def test_zero_and_perfect_scores_have_an_interval_that_is_not_empty():
    zero = interval_of_mean([0.0] * 164, **KNOBS)
    # Wilson at 0 of n: z^2 / (n + z^2) with z^2 = 3.841459
    assert (zero.low, zero.high) == pytest.approx((0.0, 3.841459 / 167.841459), rel=1e-6)
    assert zero.method.startswith("Wilson")
    perfect = interval_of_mean([1.0] * 164, **KNOBS)
    assert perfect.high == 1.0
    assert perfect.low == pytest.approx(1 - 3.841459 / 167.841459, rel=1e-6)


def test_constant_scores_between_the_ends_have_one_too():
    interval = interval_of_mean([0.5] * 30, **KNOBS)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < 0.5 < interval.high


def test_many_samples_use_the_bootstrap_and_it_covers():
    rng = np.random.default_rng(0)
    hits, trials = 0, 200
    for _ in range(trials):
        # True mean of Beta(1, 3) is 0.25; 10 samples of each of 80 problems.
        scores = rng.binomial(10, rng.beta(1, 3, size=80)) / 10
        interval = interval_of_mean(list(scores), confidence=0.95, resamples=400, seed=1)
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 0.25 <= interval.high
    assert interval.method.startswith("percentile bootstrap over problems (400 resamples, seed 1)")
    # 95 % of 200 is 190, binomial standard deviation 3.1; the percentile bootstrap is slightly narrow.
    assert 178 <= hits <= 200


def test_ratio_weighs_documents_by_their_bytes():
    # Two documents: 10 bits over 10 bytes, 90 bits over 30 bytes. Resamples: 1.0, 2.5 (twice), 3.0.
    interval = interval_of_ratio([10, 90], [10, 30], confidence=0.6, resamples=4000, seed=0)
    assert (interval.low, interval.high) == (1.0, 3.0)
    assert interval_of_ratio([10], [10], **KNOBS).low is None


@pytest.mark.parametrize("bad", [([], []), ([1.0], [0.0]), ([1.0, 2.0], [1.0])])
def test_bad_units_are_refused(bad):
    with pytest.raises(ValueError, match="at least one unit"):
        bootstrap_ratio(*bad, **KNOBS)


def test_bad_counts_are_refused():
    with pytest.raises(ValueError, match="wilson"):
        wilson(3, 2, 0.95)
    with pytest.raises(ValueError, match="at least one problem"):
        interval_of_mean([], **KNOBS)
