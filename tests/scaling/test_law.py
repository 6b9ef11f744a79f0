"""The fit recovers laws that are known, from exact and from noisy points."""

from __future__ import annotations

import numpy as np
import pytest

from codellm_dag.recipes.corpora import LANGUAGES
from codellm_dag.scaling.law import Law, Point, TooFewPointsError, bootstrap_laws, fit_law, interval
from codellm_dag.scaling.published_laws import PUBLISHED_LAWS, published_rank

CHINCHILLA = PUBLISHED_LAWS[0].law


def points(noise: float, seed: int = 0, sizes: int = 5) -> list[Point]:
    draw = np.random.default_rng(seed)
    return [
        Point(size, tokens, CHINCHILLA.loss(size, tokens) * float(np.exp(noise * draw.standard_normal())))
        for size in np.geomspace(5e7, 1e10, sizes)
        for tokens in np.geomspace(1e9, 3e11, 5)
    ]


def test_exact_points_give_the_law_back():
    found = fit_law(points(0.0))
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(found, name) == pytest.approx(getattr(CHINCHILLA, name), rel=1e-4)


def test_noisy_points_give_nearly_the_law_and_intervals_that_hold_it():
    noisy = points(0.003, seed=3)
    found = fit_law(noisy)
    assert pytest.approx(1.69, rel=0.03) == found.E
    assert found.alpha == pytest.approx(0.34, rel=0.1)
    assert found.beta == pytest.approx(0.28, rel=0.1)
    assert found.loss(7e10, 1.4e12) == pytest.approx(CHINCHILLA.loss(7e10, 1.4e12), rel=0.01)
    laws = bootstrap_laws(noisy, 60, seed=0)
    for name in ("E", "alpha", "beta"):
        low, high = interval(laws, name)
        assert low < getattr(CHINCHILLA, name) < high
        assert high - low < getattr(CHINCHILLA, name)
    assert bootstrap_laws(noisy, 20, seed=1) == bootstrap_laws(noisy, 20, seed=1)


def test_the_interval_of_a_small_ladder_holds_the_floor_that_its_fit_misses():
    true = Law(E=1.0, A=30.0, B=60.0, alpha=0.3, beta=0.3)
    draw = np.random.default_rng(1)
    small = [
        Point(size, tokens, true.loss(size, tokens) * float(np.exp(0.01 * draw.standard_normal())))
        for size in np.geomspace(9e4, 6.8e5, 4)
        for tokens in np.geomspace(1e5, 4e5, 3)
    ]
    assert fit_law(small).E < 0.1
    low, high = interval(bootstrap_laws(small, 40, seed=0), "E")
    assert low < 0.1
    assert 1.0 < high < 1.5


def test_one_wild_point_moves_the_fit_little():
    spoiled = points(0.0)
    spoiled[7] = Point(spoiled[7].parameters, spoiled[7].tokens, spoiled[7].loss * 1.5)
    assert fit_law(spoiled).loss(1e11, 1e12) == pytest.approx(CHINCHILLA.loss(1e11, 1e12), rel=0.01)


def test_best_size_is_the_least_loss_at_equal_flops():
    parameters, tokens = CHINCHILLA.best_size(1e21)
    assert 6 * parameters * tokens == pytest.approx(1e21)
    least = CHINCHILLA.loss(parameters, tokens)
    for factor in (0.8, 0.95, 1.05, 1.25):
        assert CHINCHILLA.loss(parameters * factor, tokens / factor) > least


def test_worked_out_by_hand():
    assert Law(E=1, A=8, B=9, alpha=0.5, beta=0.5).loss(16, 81) == pytest.approx(1 + 2 + 1)
    # Hoffmann et al. 2022: Chinchilla, 70 billion parameters and 1.4 trillion tokens
    expected = 1.69 + 406.4 / 70e9**0.34 + 410.7 / 1.4e12**0.28
    assert CHINCHILLA.loss(70e9, 1.4e12) == pytest.approx(expected)


def test_too_few_points_are_refused():
    one_size = [point for point in points(0.0) if point.parameters == 5e7]
    with pytest.raises(TooFewPointsError, match="5 points of 1 sizes and 5 numbers of tokens; needed"):
        fit_law(one_size)
    with pytest.raises(TooFewPointsError, match="4 points of"):
        fit_law(points(0.0)[:4])
    with pytest.raises(TooFewPointsError, match="finite and above 0"):
        fit_law([*points(0.0), Point(1e9, 1e9, float("nan"))])


def test_published_order_of_languages():
    assert (published_rank("csharp"), published_rank("python")) == (1, 6)
    assert published_rank("java") == published_rank("rust")
    assert published_rank("cobol") is None
    assert {published_rank(language) for language in LANGUAGES} == {1, 2, 3, 4, 5, 6}


def test_exponents_stay_where_they_mean_something():
    # The largest model is far better than its size explains: only a huge exponent would fit that exactly.
    steep = [Point(n, d, 3.0 if n < 3e5 else 1.0) for n in (1e5, 2e5, 3e5) for d in (1e5, 2e5, 4e5)]
    for law in (fit_law(steep), *bootstrap_laws(steep, 20, seed=0)):
        assert 0.0 <= law.alpha <= 2.0
        assert 0.0 <= law.beta <= 2.0
        assert np.isfinite(law.loss(1e9, 1e9))
