"""Point estimates against hand numbers and brute-force enumeration."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from codellm_dag.evaluation.metrics import bits_per_byte, pass_at_k


def test_pass_at_k_by_hand():
    assert pass_at_k(10, 3, 1) == 0.3
    # 1 - C(7,5)/C(10,5) = 1 - 21/252
    assert pass_at_k(10, 3, 5) == pytest.approx(1 - 21 / 252, abs=1e-15)
    assert pass_at_k(4, 0, 4) == 0
    assert pass_at_k(4, 1, 4) == 1
    assert pass_at_k(2, 2, 1) == 1


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_pass_at_k_equals_enumerating_all_draws(n: int):
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        samples = [True] * c + [False] * (n - c)
        draws = [any(draw) for draw in itertools.combinations(samples, k)]
        assert pass_at_k(n, c, k) == pytest.approx(sum(draws) / len(draws), abs=1e-15)


def test_pass_at_k_equals_the_products_of_the_paper_for_large_n():
    for n, c, k in [(200, 1, 100), (200, 37, 10), (2000, 3, 1999)]:
        paper = 1.0 if n - c < k else 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))
        assert pass_at_k(n, c, k) == pytest.approx(paper, rel=1e-12)


def test_pass_at_k_is_unbiased():
    # The mean over binomial c of the estimator is exactly 1 - (1 - p)^k.
    n, k, p = 6, 3, 0.3
    mean = sum(
        len(list(itertools.combinations(range(n), c))) * p**c * (1 - p) ** (n - c) * pass_at_k(n, c, k)
        for c in range(n + 1)
    )
    assert mean == pytest.approx(1 - 0.7**3, abs=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(5, 6, 1), (5, -1, 1), (5, 2, 0), (5, 2, 6), (0, 0, 1)])
def test_pass_at_k_refuses_impossible_counts(n: int, c: int, k: int):
    with pytest.raises(ValueError, match="pass_at_k"):
        pass_at_k(n, c, k)


def test_bits_per_byte_by_hand():
    # A uniform choice from 256 for each of 100 bytes costs 8 bits a byte.
    assert bits_per_byte(100 * float(np.log(256)), 100) == pytest.approx(8.0, abs=1e-12)
    assert bits_per_byte(0.0, 3) == 0


@pytest.mark.parametrize(("nats", "size"), [(1.0, 0), (-0.1, 5), (float("nan"), 5)])
def test_bits_per_byte_refuses_nonsense(nats: float, size: int):
    with pytest.raises(ValueError, match="bits_per_byte"):
        bits_per_byte(nats, size)
