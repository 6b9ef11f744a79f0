"""The scaling law ``L(N, D) = E + A / N^alpha + B / D^beta`` and its fit (Hoffmann et al. 2022, approach 3).

N: parameters, D: training tokens, L: loss. The fit minimizes the Huber loss (delta 1e-3) between predicted
and observed log loss over ``e = log E``, ``a = log A``, ``b = log B``, alpha and beta, from a grid of starts
(their appendix D.2). Sums of Huber terms are used, not means: Besiroglu et al. 2024 report that means made
the published fit stop early. Intervals are percentiles of refits on resampled points (bootstrap).

The minimizer is scipy's SLSQP; the papers take L-BFGS. It reaches the same minima, also those of narrow
valleys (small ladders), and does not slow down with BLAS threads, as scipy's L-BFGS-B does on five variables.
200 refits take 3 to 8 CPU-seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import minimize

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
"""The largest start of that grid, and the bound of both exponents: a few points of a small ladder can be
fitted with any exponent, which then means nothing."""
_BOUNDS = [(-50.0, 100.0), (-50.0, 100.0), (-20.0, 50.0), (0.0, LARGEST_EXPONENT), (0.0, LARGEST_EXPONENT)]
"""Of a, b, e, alpha and beta: those of the logarithms keep powers from overflowing."""
_BEST_STARTS = 24
"""Starts, of 4500, whose first objective is least; the others are not followed."""


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
    return _as_law(_fit(_arrays(points)))


def bootstrap_laws(points: Sequence[Point], resamples: int, seed: int) -> list[Law]:
    """Laws refitted on `resamples` samples of the points, drawn with replacement by `seed`.

    Every sample keeps at least two sizes and two numbers of tokens; others are drawn again. Each is refitted
    from the best fit of all points and from the grid's best start for the sample: from the first alone, some
    refits of small ladders stay where E is 0 and intervals come out too narrow.
    """
    data = _arrays(points)
    draw = np.random.Generator(np.random.Philox(seed))
    weights = []
    while len(weights) < resamples:
        counts = np.bincount(draw.integers(0, len(points), len(points)), minlength=len(points))
        chosen = counts > 0
        if all(len(np.unique(column[chosen])) > 1 for column in data[:2]):
            weights.append(counts.astype(float))
    best, (grid, terms) = _fit(data), _grid(data)
    return [_as_law(_best(data, one, [best, grid[(terms @ one).argmin()]])) for one in weights]


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
    """Value and gradient [5] of the weighted Huber sum, in units of delta squared, at (a, b, e, …)."""
    log_n, log_d, log_loss = data

    def at(theta: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, e, alpha, beta = theta
        of_size, of_data, floor = np.exp(a - alpha * log_n), np.exp(b - beta * log_d), np.exp(e)
        total = of_size + of_data + floor
        residual = (np.log(total) - log_loss) / HUBER_DELTA
        clipped = np.clip(residual, -1.0, 1.0)
        slope = weights * clipped
        value = slope @ (residual - 0.5 * clipped)
        slope /= HUBER_DELTA * total
        of_size, of_data, floor = slope * of_size, slope * of_data, slope * floor
        gradient = [of_size.sum(), of_data.sum(), floor.sum(), -(of_size @ log_n), -(of_data @ log_d)]
        return value, np.array(gradient)

    return at


def _grid(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The starts [4500, 5], and each point's term of the objective there [4500, n]."""
    grid = np.array(list(product(*_GRID.values())))
    a, b, e, alpha, beta = (grid[:, i, None] for i in range(5))
    log_n, log_d, log_loss = data
    total = np.exp(a - alpha * log_n) + np.exp(b - beta * log_d) + np.exp(e)
    residual = np.abs(np.log(total) - log_loss) / HUBER_DELTA
    return grid, np.where(residual <= 1, 0.5 * residual**2, residual - 0.5)


def _fit(data: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """The best fit to all points, each counted once, [5]."""
    grid, terms = _grid(data)
    starts = grid[np.argsort(terms.sum(1), kind="stable")[:_BEST_STARTS]]
    return _best(data, np.ones(len(data[0])), starts)


def _best(
    data: tuple[np.ndarray, np.ndarray, np.ndarray], weights: np.ndarray, starts: Iterable[np.ndarray]
) -> np.ndarray:
    """The least of the minima reached from `starts`, [5]; the first of equals."""
    objective = _objective(data, weights)
    options = {"ftol": 1e-12, "maxiter": 500}
    found = [
        minimize(objective, start, jac=True, method="SLSQP", bounds=_BOUNDS, options=options)
        for start in starts
    ]
    return min(found, key=lambda one: one.fun).x


def _as_law(theta: np.ndarray) -> Law:
    a, b, e, alpha, beta = (float(value) for value in theta)
    return Law(E=float(np.exp(e)), A=float(np.exp(a)), B=float(np.exp(b)), alpha=alpha, beta=beta)
