"""What a run of the trainer is given and what it gives back, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass

from codellm_dag.recipes.training import Batch
from codellm_dag.recipes.training import Optimizer as OptimizerRecipe


class ResumeMismatchError(RuntimeError):
    """A process of the group does not hold the checkpoint that the others resume from."""

    label = "infra"


class DivergedError(RuntimeError):
    """The loss or the gradient is not finite; the message names step and knobs."""

    label = "diverged"  # the ledger's word for it


@dataclass(frozen=True)
class Plan:
    """How a run trains. ``steps``: optimiser steps, at least 1. ``identity`` names the run whose checkpoints
    may be resumed.
    """

    optimizer: OptimizerRecipe
    batch: Batch
    steps: int
    seed: int
    identity: str


@dataclass(frozen=True)
class Trained:
    """What a run did. ``losses``: mean loss in nats of each step; ``targets``: tokens that had a loss."""

    losses: list[float]
    targets: int
