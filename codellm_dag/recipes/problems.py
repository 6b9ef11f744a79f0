"""Recipes of the problems room: benchmarks and the training problems made from the same families."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from codellm_dag.recipes.base import InvalidRecipeError, Recipe

BENCHMARKS = ("humaneval", "microbench")
"""Benchmarks with problems, i.e. the partition keys of `benchmark_problems`."""


class BenchmarkRecipe(Recipe):
    """The problems of one benchmark. The ``microbench_*`` fields do nothing for other benchmarks."""

    benchmark: Literal["humaneval", "microbench"] = Field(
        default="microbench", description="Which benchmark; the asset's partition key replaces it."
    )
    microbench_seed: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        description="Seed of the split of templates into halves and of the held-out problems.",
    )
    microbench_problems: int = Field(
        default=180,
        ge=1,
        le=10_000,
        description="Held-out problems. 180 with 10 samples each put the 95 % interval of a pass rate near "
        "0.3 at about ±0.06.",
    )
    heldout_fraction: float = Field(
        default=0.5,
        gt=0.0,
        lt=1.0,
        description="Share of microbench templates held out of training.",
    )
    maximum_problems: int = Field(
        default=0,
        ge=0,
        description="Problems to keep, in order of id; 0 keeps all. For tests.",
    )

    def for_partition(self, key: str) -> Self:
        """This recipe for the benchmark named by the partition `key`."""
        if key not in BENCHMARKS:
            raise InvalidRecipeError(f"benchmark {key!r} is not known; allowed: {', '.join(BENCHMARKS)}")
        return self.model_copy(update={"benchmark": key})


class SftDataRecipe(Recipe):
    """Chat examples from the microbench templates that the benchmark does not hold out."""

    examples: int = Field(default=4000, ge=1, le=10_000_000, description="Examples to generate.")
    seed: int = Field(default=1, ge=0, le=2**31 - 1, description="Seed of names, constants and wordings.")


class RlProblemsRecipe(Recipe):
    """Problems with hidden tests for RL, from the templates that the benchmark does not hold out."""

    problems: int = Field(default=400, ge=1, le=10_000_000, description="Problems to generate.")
    seed: int = Field(
        default=2,
        ge=0,
        le=2**31 - 1,
        description="Seed of names, constants and wordings; unlike sft_data's, so that problems are new.",
    )
