"""A short training run that can branch: model, optimizer state and place in the data, copied together.

Same model, loss, optimizer and order of rows as the trainer, in one process and without its schedule: what
experiments compare are runs that differ in one thing only. The last rows of the shards are never trained on;
their loss is what is measured. A run is whole or part of a study's trial (`study.py`); it draws no random
numbers, so its state is its model, its optimizer's and its place in the data.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from codellm_dag.recipes.training import Optimizer
from codellm_dag.scaling.nested import NestedReport
from codellm_dag.scaling.study import Study
from codellm_dag.training.architecture import of_config
from codellm_dag.training.flops import training_flops_per_token
from codellm_dag.training.model import target_losses
from codellm_dag.training.optimizer import make_optimizer
from codellm_dag.training.rows import IGNORED, InvalidTrainingDataError, Rows, row_order

_STATE = "run.pt"
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Tokens, positions and targets, int64 [rows, t]."""


class Data:
    """Rows to train on, in an order by `seed` that never ends, and `held_out` rows to measure on.

    Raises InvalidTrainingDataError where `rows` does not hold twice as many as are held out.
    """

    def __init__(self, rows: Rows, held_out: int, seed: int) -> None:
        if len(rows) < 2 * held_out:
            raise InvalidTrainingDataError(
                f"evaluation_rows = {held_out}: the shards hold {len(rows)} rows; allowed: up to "
                f"{len(rows) // 2}"
            )
        self.rows, self.seed = rows, seed
        self.length = rows.sequence_length
        self._training = len(rows) - held_out
        self._order = np.empty(0, dtype=np.int64)

    def batch(self, start: int, count: int) -> Batch:
        """Tokens, positions and targets, int64 [count, t], of the rows in places ``start``… of the order."""
        if start + count > len(self._order):
            self._order = row_order(self._training, 2 * (start + count), self.seed)
        return self._stacked(self._order[start : start + count])

    def evaluation(self) -> Batch:
        """The rows that are held out."""
        return self._stacked(np.arange(self._training, len(self.rows)))

    def _stacked(self, numbers: np.ndarray) -> Batch:
        rows = [self.rows.row(int(number)) for number in numbers]
        tokens, positions, targets = (np.stack(column) for column in zip(*rows, strict=True))
        return torch.from_numpy(tokens), torch.from_numpy(positions), torch.from_numpy(targets)


class SmallRun:
    """A model in training. ``tokens``: trained on so far; ``place``: rows read so far."""

    def __init__(self, model: Any, optimizer: Optimizer, data: Data, place: int = 0) -> None:
        self.model, self.recipe, self.data, self.place = model, optimizer, data, place
        self.optimizer = make_optimizer(model, optimizer)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]

    @property
    def tokens(self) -> int:
        """Tokens read so far, padding counted."""
        return self.place * self.data.length

    def branch(self) -> SmallRun:
        """A copy that goes on from here by itself."""
        other = SmallRun(copy.deepcopy(self.model), self.recipe, self.data, self.place)
        other.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        return other

    def as_trial(self, study: Study, name: str, train: Callable[[NestedReport], Any]) -> Any:
        """The result of `train`, which trains this run, as the study's trial `name`; the state is kept, too.

        Where an earlier attempt has done the trial, the run is brought to where it was then.
        """
        kept = study.is_done(name)
        result = study.trial(name, train, self.save)
        if kept:
            self.load(study.files(name))
        return result

    def save(self, folder: Path) -> None:
        """Write the run's state to `folder`."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**state, "place": self.place}, folder / _STATE)

    def load(self, folder: Path) -> None:
        """Go on from the state in `folder`."""
        state = torch.load(folder / _STATE, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.place = state["place"]

    def train(
        self, rows: int, global_rows: int, trial: NestedReport | None, rate: float = 1.0, warmup: int = 0
    ) -> None:
        """Read `rows` more rows, `global_rows` a step, at `rate` times the recipe's learning rates.

        The first `warmup` steps raise the rate in a line. Rows that make no whole step are left. `trial` is
        told of every step. Raises Stopped where the attempt was asked to end.
        """
        tokens = global_rows * self.data.length
        flops = tokens * training_flops_per_token(of_config(self.model.config), self.data.length)
        self.model.train()
        for step in range(rows // global_rows):
            share = rate * min(1.0, (step + 1) / (warmup + 1))
            for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
                group["lr"] = peak * share
            losses = target_losses(self.model, *self.data.batch(self.place, global_rows), IGNORED)
            losses.mean().backward()
            if self.recipe.gradient_clip:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.place += global_rows
            if trial:
                trial.step(tokens, flops)

    def loss(self, rows: int = 32) -> float:
        """Mean loss in nats a target of the held-out rows, read `rows` at a time; infinite if not finite."""
        self.model.eval()
        total, count = 0.0, 0
        tokens, positions, targets = self.data.evaluation()
        with torch.no_grad():
            for start in range(0, len(tokens), rows):
                part = slice(start, start + rows)
                losses = target_losses(self.model, tokens[part], positions[part], targets[part], IGNORED)
                total, count = total + float(losses.double().sum()), count + len(losses)
        value = total / count
        return value if math.isfinite(value) else math.inf
