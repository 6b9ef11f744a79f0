"""Recipes of the comparison of frameworks: one fine-tuning with each backend, and how all are scored."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from codellm_dag.recipes.backends import Backend, BackendName
from codellm_dag.recipes.base import InvalidRecipeError, Recipe
from codellm_dag.recipes.evaluation import BitsPerByteRecipe, ReportRecipe, SamplingRecipe
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.recipes.training import Optimizer, SftRecipe

FINE_TUNING: tuple[BackendName, ...] = ("trainer", "deepspeed", "fsdp2", "llamafactory", "swift", "verl")
"""Backends that fine-tune on messages; the other ones are used for pretraining only."""


class FrameworksRecipe(Recipe):
    """One fine-tuning recipe, run with each of several backends.

    The asset's partition is a backend's name; a partition's recipe holds that backend alone, so that what is
    listed beside it is no part of its identity.
    """

    training: SftRecipe = Field(
        default_factory=lambda: SftRecipe(optimizer=Optimizer(learning_rate=2e-3)),
        description="What all backends are given; its backend is replaced. Rows of pretraining are not "
        "replayed: frameworks that read messages cannot.",
    )
    backends: tuple[Backend, ...] = Field(
        default=(Backend(), Backend(name="deepspeed", zero_stage=2), Backend(name="fsdp2")),
        min_length=1,
        max_length=len(FINE_TUNING),
        description="Backends to compare, each name once, each with its sharding. By default those that "
        "train in our own process; those with an environment of their own must have been built "
        "(codellm-dag environments build NAME).",
    )

    @model_validator(mode="after")
    def _comparable(self) -> Self:
        names = [backend.name for backend in self.backends]
        if len(set(names)) < len(names):
            raise ValueError(f"backends = {', '.join(names)}: each name once")
        for name in names:
            if name not in FINE_TUNING:
                allowed = ", ".join(FINE_TUNING)
                raise ValueError(f"backends = {name}: used for pretraining only; allowed: {allowed}")
        if self.training.backend not in (Backend(), *self.backends):
            raise ValueError(
                f"training.backend = {self.training.backend.name}: backends says what trains; leave it out"
            )
        if self.training.replay:
            raise ValueError(f"training.replay = {self.training.replay}: must be 0 in a comparison")
        return self

    def for_partition(self, key: str) -> Self:
        """This recipe for the backend named `key`. Raises InvalidRecipeError if it is not listed."""
        for backend in self.backends:
            if backend.name == key:
                training = self.training.model_copy(update={"backend": backend})
                values = {"training": training.model_dump(mode="json"), "backends": [backend.model_dump()]}
                return type(self).parse(values)
        listed = ", ".join(backend.name for backend in self.backends)
        raise InvalidRecipeError(f"FrameworksRecipe.backends does not list {key}; listed: {listed}")

    def check_runtime(self, runtime: Runtime) -> None:
        """As the training's."""
        self.training.check_runtime(runtime)

    def chosen_modules(self) -> tuple[str, ...]:
        """The training's backend."""
        return self.training.chosen_modules()

    def chosen_packages(self) -> tuple[str, ...]:
        """The training's backend's."""
        return self.training.chosen_packages()


class FrameworkReportRecipe(Recipe):
    """How the checkpoints of several frameworks are scored: by our own evaluation, all in the same way."""

    backends: tuple[BackendName, ...] = Field(
        default=(),
        max_length=len(FINE_TUNING),
        description="Checkpoints to compare; none named: all there are.",
    )
    bits_per_byte: BitsPerByteRecipe = Field(
        default_factory=BitsPerByteRecipe, description="How held-out documents are measured."
    )
    microbench: SamplingRecipe = Field(
        default_factory=lambda: SamplingRecipe(max_new_tokens=96),
        description="How programs are sampled: greedy, one a problem, as leaderboards do.",
    )
    scores: ReportRecipe = Field(default_factory=ReportRecipe, description="Numbers and their intervals.")

    @field_validator("backends")
    @classmethod
    def _once(cls, names: tuple[BackendName, ...]) -> tuple[BackendName, ...]:
        if len(set(names)) < len(names):
            raise ValueError("each name once")
        return names
