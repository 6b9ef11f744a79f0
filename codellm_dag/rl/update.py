"""The policy update: AdamW steps on the policy-gradient loss of one rollout batch.

The loss is a mean over all response tokens of a minibatch (not a mean of means), whatever the micro-batches.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from codellm_dag.recipes.rl import PolicyOptimiserRecipe, RlRecipe
from codellm_dag.rl.errors import PolicyMismatch
from codellm_dag.rl.losses import clipped_share, k3_divergence, policy_losses
from codellm_dag.rl.packing import GroupTokens, PackedRows, micro_batches, pack, response_logprobs
from codellm_dag.rl.rollouts import TrainedGroup

LARGEST_GAP = 0.05
"""Largest mean difference, in nats a token, between sampled and recomputed log-probabilities."""


@dataclass(frozen=True)
class _Part:
    """A micro-batch: its rows, and the advantages and sampled log-probabilities of its targets, [tokens]."""

    rows: PackedRows
    advantages: Tensor
    sampled: Tensor


class PolicyUpdater:
    """Holds the policy and its optimiser; `update` changes both."""

    def __init__(self, model: Any, recipe: RlRecipe, reference: Any | None = None) -> None:
        if recipe.loss.kl_coefficient > 0 and reference is None:
            raise ValueError("loss.kl_coefficient is above 0 but there is no reference model")
        self.model = model
        self.recipe = recipe
        self.reference = reference
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimiser = recipe.optimiser
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            lr=optimiser.learning_rate,
            betas=(optimiser.beta1, optimiser.beta2),
            weight_decay=optimiser.weight_decay,
        )

    def update(self, groups: Sequence[TrainedGroup], step: int) -> dict[str, float]:
        """Train on `groups` at the learning rate of `step` (from 0), once or as ``loss`` says.

        Returns loss, grad_norm (before clipping), clipped_share, learning_rate, logprob_gap, and kl if it is
        part of the loss: means over updates. No groups: no update and only the learning rate.
        """
        rate = learning_rate(self.recipe.optimiser, step, self.recipe.steps)
        if not groups:
            return {"learning_rate": rate}
        for settings in self.optimiser.param_groups:
            settings["lr"] = rate
        minibatches = [
            [self._part(part) for part in self._split(minibatch)]
            for minibatch in _contiguous(groups, self.recipe.loss.minibatches)
        ]
        several = len(minibatches) * self.recipe.loss.epochs > 1
        # With one update the batch is on-policy and the old log-probabilities are those of this very pass.
        old = [
            [self._frozen(self.model, part.rows) if several else None for part in row] for row in minibatches
        ]
        rounds = list(zip(minibatches, old, strict=True)) * self.recipe.loss.epochs
        totals: dict[str, float] = {}
        for parts, olds in rounds:
            for name, value in self._step(parts, olds).items():
                totals[name] = totals.get(name, 0.0) + value / len(rounds)
        return {**totals, "learning_rate": rate}

    def divergence(self, groups: Sequence[GroupTokens], reference: Any) -> float:
        """Mean KL (k3, nats a token) of the policy to `reference` on the response tokens of `groups`."""
        total = 0.0
        for batch in micro_batches(groups, self.recipe.micro_batch_tokens):
            rows = pack([groups[index] for index in batch])
            ours, theirs = self._frozen(self.model, rows), self._frozen(reference, rows)
            total += float(k3_divergence(ours, theirs).double().sum())
        return total / sum(group.response_tokens for group in groups)

    def _split(self, groups: Sequence[TrainedGroup]) -> list[tuple[TrainedGroup, ...]]:
        batches = micro_batches([group.tokens for group in groups], self.recipe.micro_batch_tokens)
        return [tuple(groups[index] for index in batch) for batch in batches]

    def _part(self, groups: tuple[TrainedGroup, ...]) -> _Part:
        responses = [
            (advantage, logprobs)
            for group in groups
            for advantage, logprobs in zip(group.advantages, group.sampled_logprobs, strict=True)
        ]
        return _Part(
            pack([group.tokens for group in groups]),
            torch.tensor([advantage for advantage, logprobs in responses for _ in logprobs]),
            torch.tensor([value for _, logprobs in responses for value in logprobs]),
        )

    def _logprobs(self, model: Any, rows: PackedRows) -> Tensor:
        return response_logprobs(model, rows, self.recipe.rollouts.temperature)

    @torch.no_grad()
    def _frozen(self, model: Any, rows: PackedRows) -> Tensor:
        return self._logprobs(model, rows)

    def _step(self, parts: Sequence[_Part], olds: Sequence[Tensor | None]) -> dict[str, float]:
        loss_recipe = self.recipe.loss
        tokens = sum(len(part.advantages) for part in parts)
        sums = {"loss": 0.0, "clipped_share": 0.0, "logprob_gap": 0.0}
        self.optimiser.zero_grad(set_to_none=True)
        for part, old in zip(parts, olds, strict=True):
            logprobs = self._logprobs(self.model, part.rows)
            before = logprobs.detach() if old is None else old
            losses = policy_losses(logprobs, before, part.advantages, loss_recipe)
            if loss_recipe.kl_coefficient > 0:
                divergence = k3_divergence(logprobs, self._frozen(self.reference, part.rows))
                losses = losses + loss_recipe.kl_coefficient * divergence
                sums["kl"] = sums.get("kl", 0.0) + float(divergence.detach().sum())
            loss = losses.sum() / tokens
            loss.backward()
            share = clipped_share(logprobs, before, part.advantages, loss_recipe)
            sums["loss"] += float(loss.detach()) * tokens
            sums["clipped_share"] += share * len(losses)
            sums["logprob_gap"] += float((before - part.sampled).abs().sum())
        means = {name: value / tokens for name, value in sums.items()}
        _check_gap(means["logprob_gap"])
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.optimiser.max_grad_norm)
        self.optimiser.step()
        return {**means, "grad_norm": float(norm)}


def learning_rate(recipe: PolicyOptimiserRecipe, step: int, steps: int) -> float:
    """The learning rate of `step` (from 0) of `steps`: linear warm-up, then constant or linear to 0."""
    warm = min(1.0, (step + 1) / (recipe.warmup_steps + 1))
    if recipe.decay == "constant" or step < recipe.warmup_steps:
        return recipe.learning_rate * warm
    return recipe.learning_rate * (steps - step) / max(1, steps - recipe.warmup_steps)


def _contiguous(groups: Sequence[TrainedGroup], parts: int) -> list[Sequence[TrainedGroup]]:
    """`groups` in up to `parts` runs of nearly equal length, none empty."""
    parts = min(parts, len(groups))
    edges = [len(groups) * number // parts for number in range(parts + 1)]
    return [groups[start:end] for start, end in itertools.pairwise(edges)]


def _check_gap(gap: float) -> None:
    if not gap <= LARGEST_GAP:
        raise PolicyMismatch(
            f"sampled and recomputed log-probabilities differ by {gap:.3g} nats a token ({LARGEST_GAP} would "
            "be float noise): this model's attention or output head is not what the packed update assumes"
        )
