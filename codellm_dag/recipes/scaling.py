"""Recipes of the scaling room: the ladder of small runs, and the law that is fitted to it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from codellm_dag.recipes.base import Recipe
from codellm_dag.recipes.corpora import LanguageWeight
from codellm_dag.recipes.evaluation import BitsPerByteRecipe
from codellm_dag.recipes.training import Batch, BatchStage, ModelShape, Optimizer, PretrainingRecipe


def _shape(hidden: int, layers: int, heads: int) -> ModelShape:
    return ModelShape(
        hidden_size=hidden, layers=layers, heads=heads, kv_heads=heads, intermediate_size=3 * hidden
    )


def _training() -> PretrainingRecipe:
    optimizer = Optimizer(name="muon", learning_rate=4e-3, matrix_learning_rate=2e-2, weight_decay=0.0)
    return PretrainingRecipe(optimizer=optimizer, batch=Batch(global_rows=16))


class LadderRecipe(Recipe):
    """A grid of models by tokens, pretrained on one language alone, and one larger run that is held out.

    Every point is the stage `pretrained_checkpoint` with another shape and number of tokens, its schedule run
    to its own end (Hoffmann et al. 2022, section 3.1), measured in bits per byte on held-out documents.
    """

    language: str = Field(
        default="", description="Language of shard and documents; the asset's partition key replaces it."
    )
    training: PretrainingRecipe = Field(
        default_factory=_training,
        description="What all points share; its model and tokens are replaced by those of the point.",
    )
    sizes: tuple[ModelShape, ...] = Field(
        default=(_shape(32, 2, 2), _shape(48, 3, 3), _shape(64, 4, 4), _shape(96, 4, 4)),
        min_length=2,
        max_length=64,
        description="Shapes of the grid.",
    )
    tokens: tuple[int, ...] = Field(
        default=(100_000, 200_000, 400_000),
        min_length=2,
        max_length=64,
        description="Training tokens of the grid.",
    )
    held_out_size: ModelShape = Field(
        default=_shape(128, 5, 4), description="Shape of the larger run that the law is to predict."
    )
    held_out_tokens: int = Field(default=800_000, ge=1, description="Training tokens of that run.")
    maximum_epochs: float = Field(
        default=4.0,
        gt=0.0,
        le=1000.0,
        description="Points that would read the shard more often are left out: up to 4 epochs a repeated "
        "token is worth nearly a fresh one (Muennighoff et al. 2023).",
    )
    bits_per_byte: BitsPerByteRecipe = Field(
        default_factory=lambda: BitsPerByteRecipe(window_tokens=256, stride_tokens=128, batch_size=32),
        description="How each point is measured.",
    )

    @field_validator("tokens")
    @classmethod
    def _positive(cls, tokens: tuple[int, ...]) -> tuple[int, ...]:
        if min(tokens) < 1:
            raise ValueError("every number of tokens must be at least 1")
        return tokens

    def for_partition(self, key: str) -> Self:
        """This recipe for the language named by the partition `key`."""
        return self.model_copy(update={"language": key})

    def chosen_modules(self) -> tuple[str, ...]:
        """The training's backend."""
        return self.training.chosen_modules()

    def chosen_packages(self) -> tuple[str, ...]:
        """The training's backend's."""
        return self.training.chosen_packages()


class ScalingReportRecipe(Recipe):
    """How the law is fitted to the ladders and how sure it is."""

    resamples: int = Field(
        default=200,
        ge=20,
        le=100_000,
        description="Bootstrap samples of the points; Besiroglu et al. 2024 take 4,000.",
    )
    confidence: float = Field(
        default=0.95, gt=0.0, lt=1.0, description="Share of the bootstrapped values inside an interval."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of the resampling.")

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.resamples * (1 - self.confidence) < 2:
            raise ValueError(
                f"resamples={self.resamples} are too few for confidence={self.confidence}: fewer than one "
                "lies outside on either side"
            )
        return self


class CriticalBatchRecipe(Recipe):
    """Branches of several batch sizes from points of one run (Merrill et al. 2025, arXiv:2505.23971)."""

    model: ModelShape = Field(default=_shape(64, 3, 2), description="Shape of the model.")
    optimizer: Optimizer = Field(
        default_factory=lambda: Optimizer(learning_rate=2e-3, weight_decay=0.0),
        description="Update rule; the schedule is constant after warm-up.",
    )
    base_rows: int = Field(
        default=4, ge=1, le=100_000, description="Packed rows of a step of the run that is branched."
    )
    multiples: tuple[int, ...] = Field(
        default=(1, 2, 4, 8, 16),
        min_length=2,
        max_length=32,
        description="Batch sizes of the branches, as multiples of base_rows; rising, from 1.",
    )
    branch_at: tuple[int, ...] = Field(
        default=(0, 100_000, 300_000),
        min_length=1,
        max_length=64,
        description="Training tokens after which the run is branched; rising.",
    )
    branch_tokens: int = Field(default=65_536, ge=1, description="Tokens that each branch reads.")
    tolerance: float = Field(
        default=0.01,
        gt=0.0,
        le=1.0,
        description="Nats that a branch's loss may lie above that of the branch with base_rows (Merrill "
        "et al. 2025, section 3.1: 0.01).",
    )
    learning_rate_power: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="A branch of k times the batch has k to this power times the learning rate: 0.5 for Adam "
        "(Malladi et al. 2022), 1 for SGD.",
    )
    warmup_steps: int = Field(
        default=10, ge=0, le=100_000, description="Steps in which the run's learning rate rises."
    )
    evaluation_rows: int = Field(
        default=64, ge=1, le=100_000, description="Rows of the shards that are kept for measuring."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of weights and order.")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.multiples[0] != 1 or sorted(set(self.multiples)) != list(self.multiples):
            raise ValueError(f"multiples={self.multiples} must rise and begin with 1")
        if sorted(set(self.branch_at)) != list(self.branch_at) or self.branch_at[0] < 0:
            raise ValueError(f"branch_at={self.branch_at} must rise and be at least 0")
        return self


def _doubling() -> Batch:
    stages = (BatchStage(share=0.125, global_rows=8), BatchStage(share=0.375, global_rows=16))
    return Batch(global_rows=4, warmup=stages)


class BatchWarmupRecipe(Recipe):
    """A small batch, a large one and one that grows from the one to the other, over the same tokens."""

    model: ModelShape = Field(default=_shape(64, 3, 2), description="Shape of the model.")
    optimizer: Optimizer = Field(
        default_factory=lambda: Optimizer(learning_rate=2e-3, weight_decay=0.0),
        description="Update rule of the small batch; the schedule is constant after warm-up.",
    )
    batch: Batch = Field(
        default_factory=_doubling,
        description="The batch that grows. The small one is its first size, the large one its last; all "
        "scale the learning rate as it does.",
    )
    tokens: int = Field(default=524_288, ge=1, description="Tokens of each run, padding counted.")
    evaluate_every: int = Field(default=16_384, ge=1, description="Tokens between measurements.")
    warmup_steps: int = Field(
        default=16,
        ge=0,
        le=100_000,
        description="Steps of the small batch in which the learning rate rises; larger ones take as many "
        "tokens.",
    )
    evaluation_rows: int = Field(
        default=64, ge=1, le=100_000, description="Rows of the shards that are kept for measuring."
    )
    seeds: int = Field(
        default=2, ge=1, le=64, description="Runs of each kind, with other weights and another order."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="The first seed.")

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if not self.batch.warmup:
            raise ValueError("batch.warmup=() must have at least one stage")
        return self


class MixtureTrialsRecipe(Recipe):
    """The planned mixture of languages against equal shares, at equal tokens, with several seeds each."""

    training: PretrainingRecipe = Field(
        default_factory=lambda: PretrainingRecipe(
            model=_shape(64, 3, 2),
            optimizer=_training().optimizer,
            batch=Batch(global_rows=16),
            tokens=400_000,
        ),
        description="How each model is trained; its seed is the first one.",
    )
    planned: tuple[LanguageWeight, ...] = Field(
        default=(),
        description="Weights of the languages in the planned mixture's training rows; empty: their shares of "
        "the training bytes that the asset mixture has planned.",
    )
    seeds: int = Field(
        default=3,
        ge=2,
        le=64,
        description="Models of each kind: other weights and other rows. The interval of the difference is "
        "over them.",
    )
    confidence: float = Field(default=0.95, gt=0.0, lt=1.0, description="Of the intervals.")
    bits_per_byte: BitsPerByteRecipe = Field(
        default_factory=lambda: BitsPerByteRecipe(window_tokens=256, stride_tokens=128, batch_size=32),
        description="How each model is measured.",
    )

    @model_validator(mode="after")
    def _trained_here(self) -> Self:
        lines = []
        if self.training.backend.name != "trainer":
            lines.append(f"training.backend.name={self.training.backend.name}: allowed: trainer")
        if self.training.start.how != "fresh":
            lines.append(f"training.start.how={self.training.start.how}: allowed: fresh")
        named = [entry.language for entry in self.planned]
        if len(set(named)) < len(named):
            lines.append(f"planned={', '.join(named)}: give each language one weight")
        if lines:
            raise ValueError("; ".join(lines))
        return self


class GrowthRecipe(Recipe):
    """A small model is trained, grown and trained on; beside it the large shape from scratch."""

    model: ModelShape = Field(default=_shape(64, 2, 2), description="Shape of the small model.")
    methods: tuple[Literal["stack", "widen"], ...] = Field(
        default=("stack", "widen"), min_length=1, max_length=2, description="How it is grown."
    )
    factor: int = Field(
        default=2,
        ge=2,
        le=16,
        description="Times the layers, or the width. Best between 2 and 4, and 4 is advised (Du et al. 2024, "
        "section 4.2).",
    )
    optimizer: Optimizer = Field(
        default_factory=lambda: Optimizer(learning_rate=2e-3, weight_decay=0.0),
        description="Update rule; the schedule is constant after warm-up.",
    )
    global_rows: int = Field(default=8, ge=1, le=100_000, description="Packed rows of a step.")
    small_tokens: int = Field(
        default=131_072, ge=1, description="Tokens the small model is trained on before it grows."
    )
    tokens: int = Field(default=262_144, ge=1, description="Tokens each large model is trained on.")
    evaluate_every: int = Field(default=32_768, ge=1, description="Tokens between measurements.")
    warmup_steps: int = Field(default=10, ge=0, le=100_000, description="Steps of rising learning rate.")
    evaluation_rows: int = Field(
        default=64, ge=1, le=100_000, description="Rows of the shards that are kept for measuring."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of weights and order.")

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if self.evaluate_every > self.tokens:
            raise ValueError(f"evaluate_every={self.evaluate_every} must be at most tokens={self.tokens}")
        if self.model.experts:
            raise ValueError(f"model.experts={self.model.experts} must be 0: only dense models are grown")
        return self
