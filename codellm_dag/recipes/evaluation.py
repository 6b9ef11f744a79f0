"""Recipes of the evaluation stages: samples (one block a benchmark), eval_report, leaderboard."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from codellm_dag.recipes.base import InvalidRecipeError, Recipe
from codellm_dag.recipes.execution import ExecutionRecipe

BENCHMARKS = ("humaneval", "microbench", "bits_per_byte")
"""Names of the benchmarks: the blocks of `SamplesRecipe` and the modules of `evaluation/benchmarks/`."""


class SamplingRecipe(Recipe):
    """How programs are sampled from a model and executed, for a benchmark of problems with tests."""

    samples_per_problem: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="Completions per problem (n of the unbiased pass@k). Source: Chen et al. 2021 use 200; "
        "1 greedy sample is the leaderboards' custom.",
    )
    temperature: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description="Sampling temperature; 0 is greedy and then samples_per_problem must be 1. Source: "
        "greedy pass@1 is the leaderboards' custom; Chen et al. 2021 use 0.2 for pass@1, 0.8 for pass@100.",
    )
    top_p: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Nucleus of sampling, a probability. Source: Chen et al. 2021 use 0.95; 1 leaves the "
        "model's distribution as it is.",
    )
    max_new_tokens: int = Field(
        default=256,
        ge=1,
        le=32_768,
        description="Longest completion in tokens. Source: the longest HumanEval reference solution is "
        "about 250 tokens of a code tokenizer; most are below 100.",
    )
    batch_size: int = Field(
        default=64,
        ge=1,
        le=8192,
        description="Sequences generated at once. It can change a sampled token through the last bits of a "
        "float sum, hence a recipe field. Source: measured fastest on 2 cores for models of a few million "
        "parameters.",
    )
    prompt_style: Literal["auto", "completion", "chat"] = Field(
        default="auto",
        description="completion: the model continues the prompt. chat: the prompt is a user turn of the "
        "tokenizer's chat template. auto: chat if the checkpoint's training.json says chat, else completion. "
        "Source: each model is asked the way it was trained.",
    )
    max_problems: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Evaluate only the first so many problems in order of a hash of their ids; 0 is all of "
        "them. For tests; a published number uses 0. Source: a benchmark's score is over all its problems.",
    )
    known_reference_failures: list[str] = Field(
        default_factory=list,
        description="Ids of problems whose own reference solution is known to fail in the sandbox. They "
        "are left out and listed. Any other failing reference stops the stage. Source: none are known.",
    )
    seed: int = Field(
        default=0,
        ge=0,
        le=2**31 - 1,
        description="Seed of the sampling. Source: any number.",
    )
    execution: ExecutionRecipe = Field(
        default_factory=ExecutionRecipe, description="Limits on each sampled program."
    )

    @field_validator("known_reference_failures")
    @classmethod
    def _sorted_unique(cls, ids: list[str]) -> list[str]:
        if len(set(ids)) != len(ids):
            raise ValueError("names a problem twice; list each id once")
        return sorted(ids)

    @model_validator(mode="after")
    def _no_repeated_greedy(self) -> Self:
        """Refuse several greedy samples: they are all the same."""
        if self.temperature == 0 and self.samples_per_problem > 1:
            raise ValueError(
                f"samples_per_problem = {self.samples_per_problem} with temperature 0 repeats one greedy "
                "completion; set temperature above 0 or samples_per_problem to 1"
            )
        return self


class BitsPerByteRecipe(Recipe):
    """How bits per byte are measured on the held-out documents of the mixture."""

    bytes_per_language: int = Field(
        default=65_536,
        ge=256,
        le=2**34,
        description="Held-out UTF-8 bytes measured per language: documents in order of their id until the "
        "cap, the last one cut at a character. Source: an interval of about 5 % in seconds on two cores.",
    )
    bytes_per_document: int = Field(
        default=4096,
        ge=64,
        le=2**30,
        description="At most so many leading bytes of one document, cut at a character, so that the number "
        "rests on many documents. Source: own choice, the median source file is about 4 kB.",
    )
    window_tokens: int = Field(
        default=512,
        ge=8,
        le=1_048_576,
        description="Tokens the model sees at once, at most its context length (checked). Source: the "
        "laptop model's context.",
    )
    stride_tokens: int = Field(
        default=256,
        ge=1,
        le=1_048_576,
        description="Tokens scored per window after the first: each has at least window_tokens - "
        "stride_tokens tokens of context where the document has them. Source: half a window, as in the "
        "transformers guide on perplexity.",
    )
    batch_size: int = Field(
        default=8,
        ge=1,
        le=8192,
        description="Windows in one forward pass. Source: measured fastest on 2 cores.",
    )

    @model_validator(mode="after")
    def _no_gaps(self) -> Self:
        """A stride longer than the window would leave tokens unscored."""
        if self.stride_tokens > self.window_tokens:
            raise ValueError(
                f"stride_tokens = {self.stride_tokens} is above window_tokens = {self.window_tokens}: tokens "
                "between two windows would not be scored; use a stride of at most the window"
            )
        return self


class SamplesRecipe(Recipe):
    """The samples stage: a block per benchmark; a partition uses the block of its benchmark only."""

    benchmark: str = Field(
        default="microbench",
        description="The benchmark of this run, set from the partition key. One of: " + ", ".join(BENCHMARKS),
    )
    humaneval: SamplingRecipe = Field(
        default_factory=SamplingRecipe,
        description="HumanEval (Chen et al. 2021): greedy, one sample a problem.",
    )
    microbench: SamplingRecipe = Field(
        default_factory=lambda: SamplingRecipe(samples_per_problem=10, temperature=0.8, max_new_tokens=96),
        description="microbench: small typed functions with hidden tests. Ten samples give pass@1 and pass@5 "
        "from one draw; temperature 0.8 as Chen et al. 2021 for larger k; references are below 96 tokens.",
    )
    bits_per_byte: BitsPerByteRecipe = Field(
        default_factory=BitsPerByteRecipe,
        description="Bits per byte on held-out documents, per language.",
    )

    @field_validator("benchmark")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BENCHMARKS:
            raise ValueError(f"is not a benchmark; allowed: {', '.join(BENCHMARKS)}")
        return name

    def for_partition(self, key: str) -> Self:
        """The recipe of one partition ``benchmark|model`` (parts in any order).

        The blocks of other benchmarks go back to their defaults, so that a change to one benchmark's knobs
        does not recompute the others. Raises InvalidRecipeError unless exactly one part
        names a benchmark.
        """
        found = [part for part in key.split("|") if part in BENCHMARKS]
        if len(found) != 1:
            raise InvalidRecipeError(
                f"SamplesRecipe: partition {key!r} must name exactly one benchmark between '|'; "
                f"allowed: {', '.join(BENCHMARKS)}"
            )
        return type(self).parse({"benchmark": found[0], found[0]: getattr(self, found[0]).model_dump()})


class ReportRecipe(Recipe):
    """The eval_report stage: which numbers are computed from samples, and their intervals."""

    pass_at: list[int] = Field(
        default_factory=lambda: [1, 5],
        min_length=1,
        description="The k of pass@k. A k above the samples per problem is left out. Source: Chen et al. "
        "2021 (1, 10, 100); 5 fits ten samples.",
    )
    confidence: float = Field(
        default=0.95,
        gt=0.5,
        lt=1,
        description="Confidence of the intervals, a probability. Source: custom.",
    )
    bootstrap_resamples: int = Field(
        default=4000,
        ge=100,
        le=1_000_000,
        description="Resamples of problems (or documents) for the percentile bootstrap. Source: Efron and "
        "Tibshirani 1993 ask for at least 1000 for intervals.",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of the bootstrap. Source: any number.")

    @field_validator("pass_at")
    @classmethod
    def _positive_unique(cls, ks: list[int]) -> list[int]:
        if any(k < 1 for k in ks) or len(set(ks)) != len(ks):
            raise ValueError("must be different whole numbers of at least 1")
        return sorted(ks)


class LeaderboardRecipe(Recipe):
    """The leaderboard stage: how all reports become one table."""

    digits: int = Field(
        default=3,
        ge=1,
        le=10,
        description="Decimals in leaderboard.md; leaderboard.json keeps full precision. Source: intervals "
        "here are seldom narrower than 0.001.",
    )
