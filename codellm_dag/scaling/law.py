"""The scaling law ``L(N, D) = E + A / N^alpha + B / D^beta`` and its fit (Hoffmann et al. 2022, approach 3).

N: parameters, D: training tokens, L: loss. The fit minimizes the Huber loss (delta 1e-3) between predicted
and observed log loss over ``e = log E``, ``a = log A``, ``b = log B``, alpha and beta, by L-BFGS from a grid
of starts (their appendix D.2). Sums of Huber terms are used, not means: Besiroglu et al. 2024 show that
means made the published fit stop early. Intervals are percentiles of refits on resampled points (bootstrap).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from codellm_dag.scaling.lbfgs import minimize

HUBER_DELTA = 1e-3
"""Hoffmann et al. 2022, appendix D.2."""
_GRID = {
    "a": (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    "b": (0.0, 5.0, 10.0, 15.0, 20.0, 25.0),
    "e": (-1.0, -0.5, 0.0, 0.5, 1.0),
    "alpha": (0.0, 0.5, 1.0, 1.5, 2.0),
    "beta": (0.0, 0.5, 1.0, 1.5, 2.0),
}
"""Starts (the same appendix)."""
LARGEST_EXPONENT = 2.0
"""The largest start of that grid. Beyond it, and below 0, the objective rises steeply: a few points of a
small ladder can be fitted with any exponent, which then means nothing and overflows."""
_BEST_STARTS = 24
"""Starts, of 4500, whose first objective is least; the others are not followed."""
_BOOTSTRAP_STARTS = 4


class TooFewPointsError(ValueError):
    """A law of five coefficients needs more points, or points that differ in both size and tokens."""

    label = "invalid_recipe"


@dataclass(frozen=True)
class Law:
    """The coefficients; losses are in the unit of the points that were fitted."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """The predicted loss of a model of `parameters` after `tokens`."""
        return self.E + self.A / parameters**self.alpha + self.B / tokens**self.beta

    def best_size(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens that make the loss least where ``6 N D = flops`` (Hoffmann et al., eq. 4)."""
        scale = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        parameters = scale * (flops / 6) ** (self.beta / (self.alpha + self.beta))
        return parameters, flops / 6 / parameters


@dataclass(frozen=True)
class Point:
    """One run: parameters, training tokens and the loss it ended with."""

    parameters: float
    tokens: float
    loss: float


def fit_law(points: Sequence[Point]) -> Law:
    """The law that fits `points` best. Raises TooFewPointsError below five points, or with one size or one
    number of tokens only.
    """
    data = _arrays(points)
    return _as_law(_refined(data, np.ones((1, len(points))), _starts(data))[0])


def bootstrap_laws(points: Sequence[Point], resamples: int, seed: int) -> list[Law]:
    """Laws refitted on `resamples` samples of the points, drawn with replacement by `seed`.

    Every sample keeps at least two sizes and two numbers of tokens; others are drawn again.
    """
    data = _arrays(points)
    draw = np.random.Generator(np.random.Philox(seed))
    weights = []
    while len(weights) < resamples:
        counts = np.bincount(draw.integers(0, len(points), len(points)), minlength=len(points))
        chosen = counts > 0
        if all(len(np.unique(column[chosen])) > 1 for column in data[:2]):
            weights.append(counts.astype(float))
    starts = _refined(data, np.ones((1, len(points))), _starts(data))[:_BOOTSTRAP_STARTS]
    found = []
    for chunk in np.array_split(np.array(weights), max(1, resamples // 50)):
        tiled = np.repeat(chunk, len(starts), axis=0)
        theta, value = minimize(_objective(data, tiled), np.tile(starts, (len(chunk), 1)))
        best = value.reshape(len(chunk), -1).argmin(1)
        found += [_as_law(theta.reshape(len(chunk), -1, 5)[i, k]) for i, k in enumerate(best)]
    return found


def interval(laws: Sequence[Law], name: str, confidence: float = 0.95) -> tuple[float, float]:
    """The percentile interval of a coefficient over bootstrapped laws."""
    return percentiles([getattr(law, name) for law in laws], confidence)


def percentiles(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The middle `confidence` of `values`."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _arrays(points: Sequence[Point]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log N, log D and log L, each [n]."""
    n, d, loss = (np.array([getattr(p, name) for p in points]) for name in ("parameters", "tokens", "loss"))
    if len(points) < 5 or len(np.unique(n)) < 2 or len(np.unique(d)) < 2:
        raise TooFewPointsError(
            f"{len(points)} points of {len(np.unique(n))} sizes and {len(np.unique(d))} numbers of tokens; "
            "needed: at least 5 points, 2 sizes and 2 numbers of tokens"
        )
    if not (np.isfinite(loss).all() and (loss > 0).all()):
        raise TooFewPointsError("every point's loss must be finite and above 0")
    return np.log(n), np.log(d), np.log(loss)


def _objective(data: tuple[np.ndarray, np.ndarray, np.ndarray], weights: np.ndarray):
    """Value [k] and gradient [k, 5] of the weighted Huber sum at ``theta`` [k, 5]: a, b, e, alpha, beta."""
    log_n, log_d, log_loss = data

    def at(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b, e, alpha, beta = (theta[:, i, None] for i in range(5))
        terms = np.stack([a - alpha * log_n, b - beta * log_d, np.broadcast_to(e, (len(theta), len(log_n)))])
        top = terms.max(0)
        shares = np.exp(terms - top)
        total = shares.sum(0)
        residual = top + np.log(total) - log_loss
        inside = np.abs(residual) <= HUBER_DELTA
        huber = np.where(inside, 0.5 * residual**2, HUBER_DELTA * (np.abs(residual) - 0.5 * HUBER_DELTA))
        slope = np.clip(residual, -HUBER_DELTA, HUBER_DELTA) * weights
        of_a, of_b, of_e = slope * shares / total
        gradient = [of_a, of_b, of_e, -of_a * log_n, -of_b * log_d]
        outside = theta[:, 3:] - np.clip(theta[:, 3:], 0.0, LARGEST_EXPONENT)
        slopes = np.stack([part.sum(1) for part in gradient], axis=1)
        slopes[:, 3:] += 2 * outside
        return (huber * weights).sum(1) + (outside**2).sum(1), slopes

    return at


def _starts(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """The best starts of the grid, [k, 5]."""
    grid = np.array(list(product(*_GRID.values())))
    value, _ = _objective(data, np.ones((1, len(data[0]))))(grid)
    return grid[np.argsort(value, kind="stable")[:_BEST_STARTS]]


def _refined(data, weights: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The minima that are reached from `starts`, the best first, [k, 5]."""
    theta, value = minimize(_objective(data, weights), starts)
    return theta[np.argsort(value, kind="stable")]


def _as_law(theta: np.ndarray) -> Law:
    a, b, e, alpha, beta = (float(value) for value in theta)
    return Law(E=float(np.exp(e)), A=float(np.exp(a)), B=float(np.exp(b)), alpha=alpha, beta=beta)
