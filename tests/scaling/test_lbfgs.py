"""The minimizer against known minima and against PyTorch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codellm_dag.scaling.lbfgs import minimize


def rosenbrock(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = x[:, 0], x[:, 1]
    value = (1 - a) ** 2 + 100 * (b - a**2) ** 2
    gradient = np.stack([-2 * (1 - a) - 400 * a * (b - a**2), 200 * (b - a**2)], axis=1)
    return value, gradient


def test_rosenbrock_from_many_starts():
    starts = np.array([[-1.2, 1.0], [2.0, 2.0], [0.0, 0.0], [1.0, 1.0]])
    found, value = minimize(rosenbrock, starts)
    assert found == pytest.approx(np.ones((4, 2)), abs=1e-4)
    assert value.max() < 1e-9


def test_a_row_does_not_depend_on_the_others():
    alone, _ = minimize(rosenbrock, np.array([[-1.2, 1.0]]), iterations=20)
    together, _ = minimize(rosenbrock, np.array([[-1.2, 1.0], [30.0, -4.0]]), iterations=20)
    assert together[0] == pytest.approx(alone[0], rel=1e-12)


def test_pytorch_finds_the_same_least_squares():
    draw = np.random.default_rng(0)
    matrix, goal = draw.normal(size=(20, 4)), draw.normal(size=20)

    def squares(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residual = x @ matrix.T - goal
        return (residual**2).sum(1), 2 * residual @ matrix

    found, _ = minimize(squares, np.zeros((1, 4)))
    x = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([x], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = ((torch.tensor(matrix) @ x - torch.tensor(goal)) ** 2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert found[0] == pytest.approx(x.detach().numpy(), abs=1e-6)
