"""Recipes of the training room: the model's shape, the optimiser, pretraining and supervised fine-tuning."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from codellm_dag.recipes.backends import Backend, uneven_groups
from codellm_dag.recipes.base import InvalidRecipeError, Recipe
from codellm_dag.recipes.global_batch import uneven
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.recipes.training_options import Compute, Divergence, Lora, Start


class ModelShape(Recipe):
    """A Llama-style decoder (RMSNorm, rotary positions, SwiGLU, grouped-query attention), or its MoE form."""

    hidden_size: int = Field(default=192, ge=8, le=16_384, description="Width of the residual stream.")
    layers: int = Field(default=5, ge=1, le=256, description="Decoder blocks.")
    heads: int = Field(default=3, ge=1, le=256, description="Query heads; divides hidden_size.")
    kv_heads: int = Field(default=3, ge=1, le=256, description="Key and value heads; divides heads.")
    intermediate_size: int = Field(
        default=512, ge=8, le=65_536, description="Width of the SwiGLU layer; 8/3 of hidden_size as in Llama."
    )
    tie_embeddings: bool = Field(
        default=True, description="One matrix for input and output embeddings; saves most in small models."
    )
    rope_theta: float = Field(
        default=10_000.0, gt=1.0, description="Base of rotary positions (Llama 1 and 2)."
    )
    maximum_positions: int = Field(
        default=1024,
        ge=16,
        le=10_485_760,
        description="Largest position, in tokens, the model is declared for.",
    )
    experts: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Experts of each block, in Qwen3-MoE's form (with norms of query and key); 0: a dense "
        "Llama. intermediate_size is then one expert's width.",
    )
    experts_per_token: int = Field(
        default=0, ge=0, le=4096, description="Experts that a token is sent to (Qwen3-30B-A3B: 8 of 128)."
    )
    router_auxiliary_loss: float = Field(
        default=0.001,
        ge=0.0,
        le=10.0,
        description="Weight of the router's load-balancing loss (Fedus et al. 2022, equation 4; 0.001 as in "
        "Qwen3-30B-A3B's configuration); dense models have none.",
    )
    initializer_range: float = Field(
        default=0.02, gt=0.0, le=1.0, description="Standard deviation of initial weights (Llama's 0.02)."
    )

    @model_validator(mode="after")
    def _divides(self) -> ModelShape:
        if self.hidden_size % self.heads:
            raise ValueError(f"heads={self.heads} must divide hidden_size={self.hidden_size}")
        if self.hidden_size // self.heads % 2:
            raise ValueError(
                f"hidden_size/heads={self.hidden_size // self.heads} must be even for rotary positions"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads={self.kv_heads} must divide heads={self.heads}")
        if self.experts_per_token > self.experts or (self.experts and not self.experts_per_token):
            raise ValueError(
                f"experts_per_token={self.experts_per_token} must be 1 to experts={self.experts}, or both 0"
            )
        return self


class Optimizer(Recipe):
    """The update rule and its schedule. Steps follow from the stage's token or epoch budget."""

    name: Literal["adamw", "muon"] = Field(
        default="adamw",
        description="AdamW for every tensor, or Muon (Jordan et al. 2024) for the blocks' matrices and AdamW "
        "for embeddings and norms.",
    )
    learning_rate: float = Field(
        default=3e-3, gt=0.0, le=1.0, description="Peak learning rate of AdamW's tensors."
    )
    matrix_learning_rate: float = Field(
        default=2e-2, gt=0.0, le=1.0, description="Peak learning rate of Muon's matrices; unused by adamw."
    )
    schedule: Literal["cosine", "linear", "warmup_stable_decay", "constant"] = Field(
        default="cosine", description="Shape of the decay after warm-up; warmup_stable_decay decays linearly."
    )
    warmup_fraction: float = Field(
        default=0.05, ge=0.0, lt=1.0, description="Share of steps in linear warm-up."
    )
    decay_fraction: float = Field(
        default=0.2, gt=0.0, le=1.0, description="Share of steps in the final decay of warmup_stable_decay."
    )
    final_fraction: float = Field(
        default=0.1,
        ge=0.0,
        le=1.0,
        description="Learning rate at the end as a share of the peak (Chinchilla: 0.1).",
    )
    weight_decay: float = Field(
        default=0.1, ge=0.0, le=10.0, description="Decoupled weight decay (GPT-3's 0.1)."
    )
    beta1: float = Field(default=0.9, ge=0.0, lt=1.0, description="AdamW's first-moment decay.")
    beta2: float = Field(
        default=0.95, ge=0.0, lt=1.0, description="AdamW's second-moment decay (GPT-3's 0.95)."
    )
    epsilon: float = Field(default=1e-8, gt=0.0, le=1.0, description="AdamW's epsilon.")
    gradient_clip: float = Field(
        default=1.0, ge=0.0, le=1e6, description="Largest global gradient norm; 0 does not clip."
    )


class BatchStage(Recipe):
    """From when on the global batch is larger: after so many tokens, or after a share of training."""

    tokens: int = Field(
        default=0,
        ge=0,
        description="Training tokens, padding counted, after which the batch grows (Merrill et al. 2025 grow "
        "OLMo 1B's after 168 and 503 billion); 0: share says when.",
    )
    share: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Share of all training tokens after which the batch grows."
    )
    global_rows: int = Field(
        ge=1, le=1_000_000, description="Packed rows in one optimiser step from then on."
    )


class Batch(Recipe):
    """How many rows make one update, on any number of devices: how many of them are read at a time, and how
    often gradients are accumulated, follows from `Runtime`.
    """

    global_rows: int = Field(
        default=32,
        ge=1,
        le=1_000_000,
        description="Packed rows in one optimiser step; a multiple of the number of processes. With warmup "
        "those of the first steps.",
    )
    warmup: tuple[BatchStage, ...] = Field(
        default=(),
        max_length=32,
        description="Batch warm-up: larger and larger batches, one after the other. Source: Merrill et al. "
        "2025 (arXiv:2505.23971), who double the batch twice; empty: one size.",
    )
    learning_rate_scaling: Literal["none", "sqrt", "linear"] = Field(
        default="sqrt",
        description="With k times the first batch the learning rate is multiplied by 1, the root of k (for "
        "Adam: Malladi et al. 2022, whose rule moves betas and epsilon too; the rate alone: Merrill et al. "
        "2025 and OLMo-core's BatchSizeSchedulerCallback) or k (for SGD). Without warmup nothing.",
    )

    @model_validator(mode="after")
    def _grows(self) -> Batch:
        rows, place, unit = self.global_rows, 0.0, ""
        for number, stage in enumerate(self.warmup):
            if (stage.tokens > 0) == (stage.share > 0):
                raise ValueError(
                    f"warmup.{number}: tokens={stage.tokens}, share={stage.share}: one must be above 0"
                )
            now = "tokens" if stage.tokens else "share"
            if unit not in ("", now):
                raise ValueError(f"warmup.{number}.{now}: the stages before it have {unit}; use one of them")
            unit, later = now, stage.tokens or stage.share
            if later <= place:
                raise ValueError(f"warmup.{number}.{unit}={later} must be above {place}, the one before")
            if stage.global_rows <= rows:
                raise ValueError(
                    f"warmup.{number}.global_rows={stage.global_rows} must be above {rows}, the one before"
                )
            rows, place = stage.global_rows, later
        return self

    @property
    def largest(self) -> int:
        """Rows of the largest step, the last one."""
        return self.warmup[-1].global_rows if self.warmup else self.global_rows

    @property
    def sizes(self) -> dict[str, int]:
        """Rows of a step by the field that says so, in the order of training."""
        later = {f"batch.warmup.{n}.global_rows": stage.global_rows for n, stage in enumerate(self.warmup)}
        return {"batch.global_rows": self.global_rows, **later}


class _TrainingRecipe(Recipe):
    """What pretraining and fine-tuning share."""

    backend: Backend = Field(default_factory=Backend, description="Framework that trains, and its sharding.")
    divergence: Divergence = Field(
        default_factory=Divergence, description="What is done about a loss that goes wrong."
    )
    compute: Compute = Field(default_factory=Compute, description="Precision, recomputation, kernels.")
    batch: Batch = Field(default_factory=Batch, description="Global batch.")

    def check_runtime(self, runtime: Runtime) -> None:
        processes = runtime.kubernetes.world_size if runtime.kubernetes else 1
        lines = [
            *(uneven(rows, processes, field) for field, rows in self.batch.sizes.items()),
            uneven_groups(self.backend.hybrid_sharding, processes) if runtime.kubernetes else "",
        ]
        if any(lines):
            raise InvalidRecipeError("\n".join(f"{type(self).__name__}.{line}" for line in lines if line))

    def chosen_modules(self) -> tuple[str, ...]:
        return (self.backend.module,)

    def chosen_packages(self) -> tuple[str, ...]:
        return (*self.backend.packages, *(("liger-kernel",) if self.compute.liger else ()))


class PretrainingRecipe(_TrainingRecipe):
    """A Llama-style model from scratch on packed shards."""

    model: ModelShape = Field(default_factory=ModelShape, description="Shape of the model.")
    start: Start = Field(default_factory=Start, description="Weights to start from.")
    optimizer: Optimizer = Field(default_factory=Optimizer, description="Update rule and schedule.")
    tokens: int = Field(
        default=1_000_000,
        ge=1,
        description="Tokens to train on, padding counted too; rounded down to whole steps. More than the "
        "shards hold means further epochs, each in a new order.",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of initial weights and data order.")

    @model_validator(mode="after")
    def _grows_while_training(self) -> Self:
        for number, stage in enumerate(self.batch.warmup):
            if stage.tokens >= self.tokens:
                raise ValueError(
                    f"batch.warmup.{number}.tokens={stage.tokens} must be below tokens={self.tokens}"
                )
        return self


class SftRecipe(_TrainingRecipe):
    """Supervised fine-tuning on chat messages, loss on the assistant's tokens only."""

    base: Literal["pretrained_checkpoint", "base_checkpoint"] = Field(
        default="pretrained_checkpoint",
        description="Asset whose model is fine-tuned: our own, or an outside one.",
    )
    data: str = Field(
        default="",
        pattern=r"^([A-Za-z][\w.-]*)?$",
        description="Dataset (partition of instruction_data) that is learnt from; empty: sft_data. Trials "
        "data=<name> compare datasets.",
    )
    optimizer: Optimizer = Field(
        default_factory=lambda: Optimizer(learning_rate=2e-3), description="Update rule and schedule."
    )
    batch: Batch = Field(default_factory=lambda: Batch(global_rows=16), description="Global batch.")
    epochs: float = Field(
        default=1.0, gt=0.0, le=1000.0, description="Passes over the data; may be a fraction."
    )
    replay: float = Field(
        default=0.0,
        ge=0.0,
        lt=1.0,
        description="Share of rows that come from the pretraining shards, so that the model does not forget "
        "plain source text. Source: 0 is plain fine-tuning; Ibrahim et al. 2024 (arXiv:2403.08763) settle on "
        "5 % for a weak shift of the data and 25 % for a strong one.",
    )
    lora: Lora = Field(default_factory=Lora, description="Adapters instead of all weights.")
    sequence_length: int = Field(default=256, ge=16, le=1_048_576, description="Tokens of one packed row.")
    maximum_examples: int = Field(
        default=0,
        ge=0,
        description="Examples to use, in order of problem id; 0 uses all. For data ablations.",
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of the data order.")

    def chosen_packages(self) -> tuple[str, ...]:
        return (*super().chosen_packages(), *(("peft",) if self.lora.rank else ()))
