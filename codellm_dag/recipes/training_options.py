"""Parts of the training recipes beside shape, optimiser and batch: what a run does when its loss diverges."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from codellm_dag.recipes.base import Recipe


class Divergence(Recipe):
    """How a loss that goes wrong is noticed, and what is done. A loss that is not finite is always noticed.

    A rollback goes to the last multiple of `rollback_steps` before the bad step, never to a checkpoint that
    the clock made, so that a reproduction goes the same way.
    """

    action: Literal["stop", "rollback"] = Field(
        default="stop",
        description="Stop with the label diverged; or go back to an earlier checkpoint and leave out the "
        "rows of the bad stretch (Chowdhery et al. 2022, PaLM, section 5.1).",
    )
    spike_deviations: float = Field(
        default=0.0,
        ge=0.0,
        le=1000.0,
        description="A loss more than so many standard deviations above the mean of the window before it is "
        "a spike; 0 looks for none. OLMo-core's SkipStepOptimizer takes 6.",
    )
    spike_window: int = Field(
        default=128,
        ge=4,
        le=100_000,
        description="Steps of that window (OLMo-core: 128). It must be half full before a spike is seen.",
    )
    rollback_steps: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="A checkpoint to go back to is taken whenever the step is a multiple of this (PaLM went "
        "back by about 100 steps).",
    )
    skip_steps: int = Field(
        default=200,
        ge=0,
        le=1_000_000,
        description="Steps whose rows are left out after going back, at least; the rows from there to the "
        "bad step always are (PaLM left out 200 to 500 batches).",
    )
    rollbacks: int = Field(
        default=3, ge=1, le=1000, description="Rollbacks of one run, at most; the next one stops it."
    )

    @model_validator(mode="after")
    def _fits(self) -> Divergence:
        if 0 < self.spike_deviations < 1:
            raise ValueError(
                f"spike_deviations={self.spike_deviations} must be 0 or at least 1: less is no spike"
            )
        return self
