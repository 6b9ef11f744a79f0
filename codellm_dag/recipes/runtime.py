"""Where and how fast a stage runs: everything that must not change a result."""

from __future__ import annotations

import os

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
    kubernetes: PodShape | None = Field(
        default=None, description="Pods of the stage, where the launcher is Kubernetes; the others ignore it."
    )
