"""What a run of the trainer is given and what it gives back, and how it fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean

from codellm_dag.recipes.training import Batch
from codellm_dag.recipes.training import Optimizer as OptimizerRecipe
from codellm_dag.recipes.training_options import Compute, Divergence
from codellm_dag.training.batch_schedule import BatchSchedule, Stretch


class ResumeMismatchError(RuntimeError):
    """A process of the group does not hold the checkpoint that the others resume from."""

    label = "infra"


class DivergedError(RuntimeError):
    """The loss or the gradient is not finite, or the loss has a spike; the message names step and knobs."""

    label = "diverged"  # the ledger's word for it


@dataclass(frozen=True)
class Plan:
    """How a run trains. ``steps``: optimiser steps, at least 1. ``identity`` names the run whose checkpoints
    may be resumed. ``micro_rows``: rows of one forward pass of one process (see `batches.micro_rows`) in
    the first step; ``growth``: the batch sizes after the first one.
    """

    optimizer: OptimizerRecipe
    batch: Batch
    steps: int
    seed: int
    identity: str
    micro_rows: int
    divergence: Divergence = field(default_factory=Divergence)
    compute: Compute = field(default_factory=Compute)
    growth: tuple[Stretch, ...] = ()

    @cached_property
    def schedule(self) -> BatchSchedule:
        """The batch size of every step."""
        first = Stretch(0, 0, self.batch.global_rows, self.micro_rows)
        return BatchSchedule(self.steps, (first, *self.growth))

    @property
    def rollback_steps(self) -> int:
        """Steps between checkpoints to go back to; 0 where the recipe asks for none."""
        return self.divergence.rollback_steps if self.divergence.action == "rollback" else 0

    def rows_until(self, step: int) -> int:
        """Rows that the first `step` steps read."""
        return self.schedule.rows_until(step)


@dataclass(frozen=True)
class Trained:
    """What a run did. ``losses``: mean loss in nats of each step; ``targets``: tokens that had a loss.

    Both are of the steps that led to the result, not of those that a rollback undid.
    """

    losses: list[float]
    targets: int


def last_loss(losses: Sequence[float]) -> float:
    """The mean of the last tenth of `losses`, of one at least."""
    return fmean(losses[-max(1, len(losses) // 10) :])
