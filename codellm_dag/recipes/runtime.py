"""Where and how fast a stage runs: everything that must not change a result."""

from __future__ import annotations

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from codellm_dag.recipes.pods import PodShape


class Runtime(BaseModel):
    """Resources of one stage request. Never part of a fingerprint; recorded in the manifest's environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threads: int = Field(
        default_factory=lambda: min(2, os.cpu_count() or 1),
        ge=1,
        le=256,
        description="CPU threads of one process. Float sums depend on it in their last bits, so a bit-exact "
        "reproduction uses the same number.",
    )
    workers: int = Field(
        default_factory=lambda: min(2, os.cpu_count() or 1),
        ge=1,
        le=256,
        description="Worker processes of data stages and of the sandbox.",
    )
    hours_between_failures: float = Field(
        default=24.0,
        gt=0.0,
        le=1e6,
        description="Mean time between failures of one machine (pod), in hours; decides how often training "
        "saves. The default suits pre-emptible machines; Kokolis et al. 2024 count 6.5 failures in a "
        "thousand node-days on a cluster of A100s, which is 3,700 hours.",
    )
    keep_checkpoints: int = Field(
        default=1, ge=1, le=1000, description="Checkpoints to resume from that a run keeps: the newest."
    )
    report_to: tuple[Literal["tensorboard", "mlflow", "trackio", "wandb"], ...] = Field(
        default=(),
        description="Trackers that training reports to beside Dagster; keys and addresses come from their "
        "own environment variables.",
    )
    micro_rows: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Most packed rows of one forward pass of one training process; 0: its whole share of the "
        "global batch. The largest number that divides the share is used. Float sums depend on it in their "
        "last bits, so a bit-exact reproduction uses the same number.",
    )
    kubernetes: PodShape | None = Field(
        default=None, description="Pods of the stage, where the launcher is Kubernetes; the others ignore it."
    )
