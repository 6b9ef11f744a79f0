"""Recipe of the rl_policy stage: reinforcement learning with rewards from sandboxed tests."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from codellm_dag.recipes.base import Recipe
from codellm_dag.recipes.execution import ExecutionRecipe

ESTIMATORS = ("rloo", "reinforce_plus_plus_baseline")
"""Names of the advantage estimators: the modules of `rl/advantages/` (a test compares the two)."""


class RewardRecipe(Recipe):
    """How the outcome of a program's hidden tests becomes a reward between 0 and 1."""

    kind: Literal["fraction", "all_or_nothing"] = Field(
        default="all_or_nothing",
        description="fraction: share of tests passed. all_or_nothing: 1 if every test passes, else 0, which "
        "is what pass@1 measures. Source: all_or_nothing as in DeepSeek-R1 and most public recipes.",
    )
    unfinished: Literal["judge", "zero"] = Field(
        default="judge",
        description="A completion cut off at max_new_tokens: judge it as it is, or give it 0. Source: judge, "
        "own choice; a cut-off function rarely passes anyway.",
    )


class RolloutRecipe(Recipe):
    """One on-policy batch: problems, samples per problem, sampling."""

    problems_per_step: int = Field(
        default=16, ge=1, le=65_536, description="Problems (groups) per step. Source: tuned on 2 cores."
    )
    group_size: int = Field(
        default=8,
        ge=2,
        le=1024,
        description="Samples per problem; the baseline of a sample comes from the others of its group. "
        "Source: 8 as in DeepSeekMath's successors (64 there, 8-16 in TRL and verl examples).",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        le=2,
        description="Sampling temperature. The policy's log-probabilities are taken at the same temperature, "
        "so that the gradient stays on-policy. Source: 1.0 in verl and TRL.",
    )
    max_new_tokens: int = Field(
        default=96,
        ge=1,
        le=32_768,
        description="Longest completion in tokens. Source: the longest reference solution of the default "
        "problems is below 96.",
    )
    generation_batch_size: int = Field(
        default=128,
        ge=1,
        le=8192,
        description="Sequences generated at once; can change the last bits of a sum, hence a recipe field. "
        "Source: measured fastest on 2 cores for a few million parameters.",
    )


class PolicyLossRecipe(Recipe):
    """The policy-gradient loss, a mean over all response tokens that are trained on."""

    kind: Literal["policy_gradient", "clipped"] = Field(
        default="clipped",
        description="policy_gradient: -advantage * log p (REINFORCE). clipped: PPO's clipped ratio; equal in "
        "gradient to the first while each batch is used for one update. Source: Schulman et al. 2017.",
    )
    clip_low: float = Field(
        default=0.2, gt=0, lt=1, description="Ratio is kept above 1 - clip_low. Source: Schulman et al. 2017."
    )
    clip_high: float = Field(
        default=0.2,
        gt=0,
        le=10,
        description="Ratio is kept below 1 + clip_high. Source: Schulman et al. 2017 (DAPO uses 0.28).",
    )
    kl_coefficient: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Weight of the KL penalty to the starting checkpoint (k3 estimator, per token). 0 spends "
        "no reference forward pass. Source: 0 as in DAPO and TRL's default; 0.001-0.04 elsewhere.",
    )
    minibatches: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Parts of a rollout batch, each one optimiser update. 1 is on-policy. Source: 1, the "
        "fewest surprises.",
    )
    epochs: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Times each rollout batch is used. Above 1 needs the clipped loss; it pays where samples "
        "cost more than updates. Source: 1 is on-policy; Schulman et al. 2017 use 3 to 15.",
    )

    @model_validator(mode="after")
    def _reuse_is_clipped(self) -> Self:
        """Refuse using a batch again with a loss that takes it for on-policy."""
        if self.kind == "policy_gradient" and self.epochs > 1:
            raise ValueError(
                f"epochs = {self.epochs} with kind = policy_gradient, which takes every batch for on-policy; "
                "use kind = clipped, or epochs = 1"
            )
        return self


class PolicyOptimiserRecipe(Recipe):
    """AdamW with linear warm-up and gradient clipping."""

    learning_rate: float = Field(
        default=1e-4,
        gt=0,
        le=1,
        description="Peak learning rate. Source: tuned for models of a few million parameters; 1e-6 is usual "
        "at 7B.",
    )
    warmup_steps: int = Field(
        default=2, ge=0, le=1_000_000, description="Steps of linear warm-up. Source: own choice."
    )
    decay: Literal["constant", "linear"] = Field(
        default="constant",
        description="Learning rate after warm-up: constant, or linear to 0 at the last step. Source: "
        "constant in verl and TRL examples of GRPO and RLOO.",
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW beta 1. Source: Kingma and Ba 2015.")
    beta2: float = Field(
        default=0.99, ge=0, lt=1, description="AdamW beta 2. Source: 0.999 is slow for short runs."
    )
    weight_decay: float = Field(
        default=0.0, ge=0, le=10, description="Decoupled weight decay. Source: TRL's default."
    )
    max_grad_norm: float = Field(
        default=1.0, gt=0, le=1000, description="Gradient 2-norm is clipped to this. Source: verl, TRL: 1.0."
    )


class RlRecipe(Recipe):
    """The rl_policy stage."""

    estimator: str = Field(
        default="rloo",
        description="Advantage estimator. One of: " + ", ".join(ESTIMATORS) + ". Source: RLOO (Ahmadian et "
        "al. 2024), unbiased and without a variance scale.",
    )
    steps: int = Field(
        default=40, ge=1, le=10_000_000, description="Rollout batches. Source: fits 100 s on 2 cores."
    )
    reward: RewardRecipe = Field(default_factory=RewardRecipe, description="Reward from hidden tests.")
    rollouts: RolloutRecipe = Field(default_factory=RolloutRecipe, description="Sampling of each step.")
    loss: PolicyLossRecipe = Field(default_factory=PolicyLossRecipe, description="Policy-gradient loss.")
    optimiser: PolicyOptimiserRecipe = Field(
        default_factory=PolicyOptimiserRecipe, description="AdamW and its schedule."
    )
    skip_uniform_groups: bool = Field(
        default=True,
        description="Leave groups whose rewards are all equal out of the update (and of the estimator's "
        "batch statistics). Source: DAPO's dynamic sampling (Yu et al. 2025), without resampling.",
    )
    micro_batch_tokens: int = Field(
        default=8192,
        ge=64,
        le=2**26,
        description="Padded tokens in one forward/backward pass. Changes memory and the last bits of a sum, "
        "not the objective. Source: measured on 2 cores.",
    )
    checkpoint_every: int = Field(
        default=10,
        ge=1,
        le=1_000_000,
        description="Steps between resumable checkpoints. A resumed run ends in the same bytes. "
        "Source: about 20 s of work on 2 cores.",
    )
    execution: ExecutionRecipe = Field(
        default_factory=lambda: ExecutionRecipe(cpu_seconds=1.0, wall_seconds=10.0, memory_megabytes=256),
        description="Limits on each sampled program. Source: default problems need milliseconds.",
    )
    seed: int = Field(
        default=0, ge=0, le=2**31 - 1, description="Seed of problem order and sampling. Source: any number."
    )

    @field_validator("estimator")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in ESTIMATORS:
            raise ValueError(f"is not an advantage estimator; allowed: {', '.join(ESTIMATORS)}")
        return name

    @model_validator(mode="after")
    def _groups_for_minibatches(self) -> Self:
        """Refuse more updates per batch than there are groups to share out."""
        if self.loss.minibatches > self.rollouts.problems_per_step:
            raise ValueError(
                f"loss.minibatches = {self.loss.minibatches} is above rollouts.problems_per_step = "
                f"{self.rollouts.problems_per_step}; a minibatch needs at least one group"
            )
        return self
