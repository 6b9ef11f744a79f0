"""Limits on one sandboxed program, as far as they can change a verdict.

How many programs run at once is `Runtime.workers`. Output, process and disk limits are the sandbox's own
constants: no honest program meets them.
"""

from __future__ import annotations

from pydantic import Field

from codellm_dag.recipes.base import Recipe


class ExecutionRecipe(Recipe):
    """What a program under test may use before it is stopped. A stopped program fails its tests."""

    cpu_seconds: float = Field(
        default=5.0,
        gt=0,
        le=600,
        description="CPU seconds one program (all its calls) may use. CPU time, not wall-clock time, so that "
        "a slow or loaded machine scores the same. Source: the slowest HumanEval reference solution needs "
        "about 1 s.",
    )
    wall_seconds: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="Wall-clock seconds, a backstop for programs that sleep or wait. Source: 6 times the "
        "default CPU limit.",
    )
    memory_megabytes: int = Field(
        default=512,
        ge=64,
        le=65536,
        description="Address space of one program in MiB. Source: an interpreter needs about 30; every "
        "HumanEval reference solution passes with 256.",
    )
    infrastructure_retries: int = Field(
        default=2,
        ge=0,
        le=20,
        description="Further tries of a program whose sandbox failed (infrastructure_error) before that "
        "sample is left out as unknown. It is never scored 0. Source: own choice.",
    )
