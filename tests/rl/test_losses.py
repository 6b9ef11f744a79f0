"""Policy losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from codellm_dag.recipes.rl import PolicyLossRecipe
from codellm_dag.rl.losses import clipped_share, k3_divergence, policy_losses

CLIPPED = PolicyLossRecipe(kind="clipped", clip_low=0.2, clip_high=0.3)
PLAIN = PolicyLossRecipe(kind="policy_gradient")


def test_plain_loss_is_minus_advantage_times_logprob():
    losses = policy_losses(torch.tensor([-1.0, -2.0]), torch.zeros(2), torch.tensor([0.5, -1.0]), PLAIN)
    assert losses.tolist() == [0.5, -2.0]


def test_clipped_loss_in_its_four_regions():
    # Ratios 2, 2, 0.5, 0.5 with advantages 1, -1, 1, -1: the pessimistic of clipped and unclipped.
    logprobs = torch.log(torch.tensor([2.0, 2.0, 0.5, 0.5])).requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0])
    losses = policy_losses(logprobs, torch.zeros(4), advantages, CLIPPED)
    assert losses.tolist() == pytest.approx([-1.3, 2.0, -0.5, 0.8])
    losses.sum().backward()
    # Where the clipped branch was taken there is no gradient; elsewhere it is -A * ratio.
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([0.0, 2.0, -0.5, 0.0])
    assert clipped_share(logprobs, torch.zeros(4), advantages, CLIPPED) == 0.5
    assert clipped_share(logprobs, torch.zeros(4), advantages, PLAIN) == 0.0


def test_on_policy_both_losses_have_the_same_gradient():
    values, advantages = torch.tensor([-0.3, -2.0, -1.0]), torch.tensor([1.0, -0.5, 0.25])
    gradients = []
    for recipe in (PLAIN, CLIPPED):
        logprobs = values.clone().requires_grad_()
        policy_losses(logprobs, values, advantages, recipe).sum().backward()
        gradients.append(logprobs.grad)
    assert torch.equal(gradients[0], gradients[1])


def test_k3_by_hand_and_its_mean_is_the_divergence():
    p, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.25, 0.25])
    k3 = k3_divergence(p.log(), q.log())
    assert k3[0] == pytest.approx(0.5 / 0.7 - math.log(0.5 / 0.7) - 1, abs=1e-6)
    assert (k3 >= 0).all()
    exact = float((p * (p / q).log()).sum())
    assert float((p * k3).sum()) == pytest.approx(exact, abs=1e-6)
    assert k3_divergence(p.log(), p.log()).tolist() == [0, 0, 0]
