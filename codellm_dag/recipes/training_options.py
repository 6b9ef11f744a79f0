"""Parts of training recipes beside shape, optimiser and batch: divergence, computing, adapters, the start."""

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


class Compute(Recipe):
    """How a step is computed. Weights, optimizer state and checkpoints are float32 whatever the precision."""

    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32",
        description="Of matrix products: float32, or autocast to 16 bits (Micikevicius et al. 2018); fp16 "
        "scales the loss, and needs a GPU but with fsdp2.",
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Keep only each block's input and compute the rest again in the backward pass (Chen et "
        "al. 2016): less memory, about a third more operations, the same losses.",
    )
    compile: bool = Field(
        default=False, description="torch.compile of the blocks; needs a C++ compiler on CPUs."
    )
    liger: bool = Field(
        default=False,
        description="Fused Triton kernels of RMSNorm, rotary positions and SwiGLU (Hsu et al. 2024); needs a "
        "GPU and the package liger-kernel.",
    )


class Lora(Recipe):
    """Low-rank adapters beside every matrix of the blocks (Hu et al. 2021); the base weights stay.

    The checkpoint is the merged model; the adapters alone lie in its folder ``adapter``.
    """

    rank: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Rank of the adapters; 0 trains all weights. QLoRA has 64.",
    )
    alpha: float = Field(
        default=16.0, gt=0.0, le=65_536.0, description="Scale of the adapters: alpha / rank (QLoRA: 16)."
    )
    dropout: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Dropout before the adapters (QLoRA: 0.1 below 33B)."
    )


class Start(Recipe):
    """What pretraining starts from; all but fresh need the input `start`, of the same shape and tokens."""

    how: Literal["fresh", "warm", "shrink_perturb"] = Field(
        default="fresh",
        description="Random weights; those of a trained model; or these shrunk, plus a share of random ones "
        "(Ash & Adams 2020, section 4). The optimizer always starts anew.",
    )
    shrink: float = Field(
        default=0.4,
        ge=0.0,
        le=1.0,
        description="Factor of the trained weights in shrink_perturb (the default of the authors' code).",
    )
    perturb: float = Field(
        default=0.1,
        ge=0.0,
        le=1.0,
        description="Factor of the random weights in shrink_perturb (the default of the authors' code).",
    )
