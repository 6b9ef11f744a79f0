"""Point estimates: unbiased pass@k and bits per byte. Their intervals are in intervals.py."""

from __future__ import annotations

import math


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that one or more of k samples drawn without replacement pass, c of n having passed.

    Unbiased for pass@k (Chen et al. 2021, "Evaluating Large Language Models Trained on Code", equation 1):
    ``1 - C(n - c, k) / C(n, k)``, in exact integers. Raises ValueError unless ``0 <= c <= n`` and
    ``1 <= k <= n``.
    """
    if not 0 <= c <= n:
        raise ValueError(f"pass_at_k: c = {c} passing samples of n = {n}; c must be from 0 to n")
    if not 1 <= k <= n:
        raise ValueError(f"pass_at_k: k = {k} with n = {n} samples; k must be from 1 to n")
    every = math.comb(n, k)
    return (every - math.comb(n - c, k)) / every


def bits_per_byte(nats: float, utf8_bytes: int) -> float:
    """Negative log-likelihood in nats as bits per UTF-8 byte: ``nats / ln 2 / bytes``.

    Comparable between tokenizers, unlike perplexity. Raises ValueError for no bytes or a negative likelihood.
    """
    if utf8_bytes < 1:
        raise ValueError(f"bits_per_byte: {utf8_bytes} bytes; at least one is needed")
    if not nats >= 0:
        raise ValueError(f"bits_per_byte: a negative log-likelihood of {nats} nats; it cannot be below 0")
    return nats / math.log(2) / utf8_bytes
