"""Recipes of the problems room: benchmarks and the training problems made from the same families."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from codellm_dag.recipes.base import InvalidRecipeError, Recipe

BENCHMARKS = ("humaneval", "microbench")
"""Benchmarks with problems, i.e. the partition keys of `benchmark_problems`."""


ExampleSource = Literal["executed_examples", "doctest_functions", "edit_sequences"]
"""The assets, besides microbench's templates, whose chat examples can go into `sft_data`."""


class StepWeights(Recipe):
    """How often problems of each number of steps are drawn, as relative weights."""

    one: float = Field(default=0.0, ge=0.0, le=1000.0, description="Weight of single steps.")
    two: float = Field(default=1.0, ge=0.0, le=1000.0, description="Weight of chains of two steps.")
    three: float = Field(default=1.0, ge=0.0, le=1000.0, description="Weight of chains of three steps.")
    four: float = Field(default=0.5, ge=0.0, le=1000.0, description="Weight of chains of four steps.")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.weights():
            raise ValueError("all weights are 0; give at least one number of steps a weight")
        return self

    def weights(self) -> dict[int, float]:
        """Weight by number of steps, those above 0 only."""
        weights = {1: self.one, 2: self.two, 3: self.three, 4: self.four}
        return {steps: weight for steps, weight in weights.items() if weight}


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
    microbench_steps: StepWeights = Field(
        default_factory=StepWeights,
        description="Difficulty of microbench. Single steps are never held out, so their weight must be 0.",
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

    @model_validator(mode="after")
    def _no_single_steps(self) -> Self:
        if self.microbench_steps.one:
            raise ValueError("microbench_steps.one must be 0: single steps are in the training half only")
        return self

    def for_partition(self, key: str) -> Self:
        """This recipe for the benchmark named by the partition `key`."""
        if key not in BENCHMARKS:
            raise InvalidRecipeError(f"benchmark {key!r} is not known; allowed: {', '.join(BENCHMARKS)}")
        return self.model_copy(update={"benchmark": key})


class OtherExamples(Recipe):
    """Chat examples of another asset that go into `sft_data`."""

    source: ExampleSource = Field(description="The asset.")
    examples: int = Field(
        default=0,
        ge=0,
        description="Examples taken, chosen by hash of the seed and their names; 0 takes all.",
    )


class SftDataRecipe(Recipe):
    """What `sft_checkpoint` learns from: examples made from microbench's templates, and those of others."""

    examples: int = Field(
        default=8000,
        ge=0,
        le=10_000_000,
        description="Examples to generate from the microbench templates that are not held out.",
    )
    steps: StepWeights = Field(
        default_factory=lambda: StepWeights(one=0.35, two=0.35, three=0.3, four=0.0),
        description="Lengths of chains. Short ones teach the steps, longer ones how to chain them.",
    )
    seed: int = Field(default=1, ge=0, le=2**31 - 1, description="Seed of names, constants and wordings.")
    others: list[OtherExamples] = Field(
        default_factory=list,
        description="Examples of other assets to mix in, which must have been materialized; with any, all "
        "examples are put in the order of a hash.",
    )

    @model_validator(mode="after")
    def _something(self) -> Self:
        named = [other.source for other in self.others]
        if not self.examples and not named:
            raise ValueError("examples = 0 and no others: there is nothing to learn from")
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"'others' names {', '.join(twice)} more than once; each source at most once")
        return self


class RlProblemsRecipe(Recipe):
    """Problems with hidden tests for RL, from the templates that the benchmark does not hold out."""

    problems: int = Field(default=2000, ge=1, le=10_000_000, description="Problems to generate.")
    steps: StepWeights = Field(
        default_factory=lambda: StepWeights(one=0.0, two=0.3, three=0.4, four=0.3),
        description="Lengths of chains; those of the benchmark, so that rewards come from what is measured.",
    )
    seed: int = Field(
        default=2,
        ge=0,
        le=2**31 - 1,
        description="Seed of names, constants and wordings; unlike sft_data's, so that problems are new.",
    )
