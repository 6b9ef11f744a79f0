"""L-BFGS (Nocedal and Wright 2006, algorithms 7.4 and 3.1) for many small problems at once.

Every row is a problem of its own: fits from many starts, or of many bootstrap samples, cost one loop. The
line search halves the step until the value falls enough (Armijo); pairs without positive curvature are left
out.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Objective = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From points [k, n] to values [k] and gradients [k, n], row by row."""

_HISTORY, _ARMIJO, _HALVINGS = 10, 1e-4, 40


def minimize(
    objective: Objective, starts: np.ndarray, iterations: int = 500, tolerance: float = 1e-13
) -> tuple[np.ndarray, np.ndarray]:
    """The points [k, n] that are reached from `starts` [k, n], and their values [k].

    A row ends when its value falls by less than `tolerance` times itself; the loop when all rows have.
    """
    x = starts.astype(float).copy()
    value, gradient = objective(x)
    steps: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    quiet = np.zeros(len(x), dtype=int)
    for _ in range(iterations):
        direction = -_two_loops(gradient, steps)
        slope = (direction * gradient).sum(1)
        uphill = slope >= 0
        direction[uphill] = -gradient[uphill]
        slope[uphill] = -(gradient[uphill] ** 2).sum(1)
        if not steps:  # without curvature yet, a first step of at most length 1
            length = np.linalg.norm(direction, axis=1, keepdims=True)
            scale = np.minimum(1.0, 1.0 / np.maximum(length, 1e-300))
            direction, slope = direction * scale, slope * scale[:, 0]
        reached, new_value, new_gradient = _line_search(objective, x, value, gradient, direction, slope)
        moved, turned = reached - x, new_gradient - gradient
        curvature = (moved * turned).sum(1)
        usable = curvature > 1e-12 * np.linalg.norm(moved, axis=1) * np.linalg.norm(turned, axis=1)
        rho = np.where(usable & (curvature > 0), 1 / np.where(curvature > 0, curvature, 1.0), 0.0)
        steps = [*steps[-_HISTORY + 1 :], (moved, turned, rho)]
        quiet = np.where(value - new_value <= tolerance * np.abs(value), quiet + 1, 0)
        x, value, gradient = reached, new_value, new_gradient
        if (quiet >= 5).all():
            break
    return x, value


def _two_loops(gradient: np.ndarray, steps: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """The inverse Hessian's approximation times `gradient`, row by row."""
    q = gradient.copy()
    weights = []
    for moved, turned, rho in reversed(steps):
        weight = rho * (moved * q).sum(1)
        q -= weight[:, None] * turned
        weights.append(weight)
    if steps:
        moved, turned, rho = steps[-1]
        length = (turned**2).sum(1)
        fits = (rho > 0) & (length > 0)
        q *= np.where(fits, 1 / np.where(fits, rho * length, 1.0), 1.0)[:, None]
    for (moved, turned, rho), weight in zip(steps, reversed(weights), strict=True):
        q += moved * (weight - rho * (turned * q).sum(1))[:, None]
    return q


def _line_search(
    objective: Objective,
    x: np.ndarray,
    value: np.ndarray,
    gradient: np.ndarray,
    direction: np.ndarray,
    slope: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points along `direction` whose values fall enough; a row for which none is found stays."""
    size = np.ones(len(x))
    reached, new_value, new_gradient = x.copy(), value.copy(), gradient.copy()
    waiting = np.ones(len(x), dtype=bool)
    for _ in range(_HALVINGS):
        tried = x + np.where(waiting, size, 0.0)[:, None] * direction
        with np.errstate(all="ignore"):
            found, slopes = objective(tried)
        good = waiting & (found <= value + _ARMIJO * size * slope) & np.isfinite(slopes).all(1)
        reached[good], new_value[good], new_gradient[good] = tried[good], found[good], slopes[good]
        waiting &= ~good
        if not waiting.any():
            break
        size[waiting] *= 0.5
    return reached, new_value, new_gradient
