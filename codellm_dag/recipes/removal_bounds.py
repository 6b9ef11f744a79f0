"""How much a cleaning may remove before a run stops.

This changes no result, so no stage imports this module: a bound can be moved without cleaning again.
"""

from __future__ import annotations

from pydantic import Field

from codellm_dag.recipes.base import Recipe


class RemovalBounds(Recipe):
    """Most a cleaning step may remove, as a share of the documents and of the bytes it was given.

    Applied to each source and to the language as a whole. A step that removes more is taken for a fault of
    the data or of the step, and the run stops there. It changes no result, so it is in no stage's recipe.
    """

    licence: float = Field(default=0.5, ge=0, le=1, description="Most removed by the licence filter.")
    quality: float = Field(default=0.3, ge=0, le=1, description="Most removed by the quality filter.")
    exact_dedup: float = Field(default=0.3, ge=0, le=1, description="Most removed as exact duplicates.")
    near_dedup: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="Most removed as near duplicates; unverified near dedup has emptied whole sources.",
    )
    decontamination: float = Field(
        default=0.1, ge=0, le=1, description="Most removed for overlap with benchmarks."
    )
    total: float = Field(default=0.6, ge=0, le=1, description="Most removed by all steps together.")
    min_documents: int = Field(
        default=20, ge=1, description="A source with fewer documents is not judged on its own."
    )


class ExampleBounds(Recipe):
    """Most a step may remove of the chat examples it was given, as a share of them and of their bytes.

    As `RemovalBounds`, for the assets of the group `instructions`; each has some of the steps. Defaults: own
    choice, above what the standard library showed (docs/sft_data.md).
    """

    code: float = Field(default=0.5, ge=0, le=1, description="Most without code, or with too much.")
    tests: float = Field(default=0.7, ge=0, le=1, description="Most without tests that can be judged.")
    alone: float = Field(default=0.9, ge=0, le=1, description="Most functions that need more than helpers.")
    length: float = Field(default=0.9, ge=0, le=1, description="Most programs that are too short or long.")
    lint: float = Field(default=0.2, ge=0, le=1, description="Most programs with errors to begin with.")
    duplicate: float = Field(default=0.5, ge=0, le=1, description="Most that came before.")
    decontamination: float = Field(default=0.1, ge=0, le=1, description="Most that overlap with benchmarks.")
    execution: float = Field(default=0.8, ge=0, le=1, description="Most whose tests do not pass.")
    mutation: float = Field(
        default=0.3, ge=0, le=1, description="Most whose tests pass without the function's body."
    )
    total: float = Field(default=0.95, ge=0, le=1, description="Most removed by all steps together.")
    min_documents: int = Field(default=20, ge=1, description="A source with fewer is not judged on its own.")
