"""Policy-gradient losses per token, and the KL estimate to a reference; averaging is done by the caller.

All tensors are float32 of shape [tokens] over the response tokens of a batch; log-probabilities are natural
and taken at the sampling temperature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from codellm_dag.recipes.rl import PolicyLossRecipe


def policy_losses(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, recipe: PolicyLossRecipe
) -> Tensor:
    """The loss of each token, to be averaged over all trained tokens.

    policy_gradient: ``-A * log p`` (REINFORCE, Williams 1992). clipped: ``-min(A * w, A * clip(w))`` with
    ``w = p / p_old`` (PPO, Schulman et al. 2017, equation 7).
    """
    if recipe.kind == "policy_gradient":
        return -advantages * logprobs
    ratio = torch.exp(logprobs - old_logprobs)
    clipped = ratio.clamp(1 - recipe.clip_low, 1 + recipe.clip_high)
    return -torch.minimum(advantages * ratio, advantages * clipped)


def clipped_share(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, recipe: PolicyLossRecipe
) -> float:
    """Share of tokens whose gradient the clipping removes, 0 to 1; 0 for the plain loss and for no tokens."""
    if recipe.kind == "policy_gradient" or not len(logprobs):
        return 0.0
    ratio = torch.exp(logprobs.detach() - old_logprobs)
    above = (ratio > 1 + recipe.clip_high) & (advantages > 0)
    below = (ratio < 1 - recipe.clip_low) & (advantages < 0)
    return float((above | below).float().mean())


def k3_divergence(logprobs: Tensor, reference_logprobs: Tensor) -> Tensor:
    """Per-token estimate of KL(policy || reference), never negative: ``exp(d) - d - 1``, d = log ref - log p.

    Schulman 2020, "Approximating KL Divergence" (k3); unbiased in value for tokens sampled from the policy.
    """
    difference = reference_logprobs - logprobs
    return torch.exp(difference) - difference - 1
