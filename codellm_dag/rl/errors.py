"""What can go wrong in reinforcement learning, as errors a person can act on."""

from __future__ import annotations


class RlError(Exception):
    """Base of the errors of this room."""


class NoReward(RlError):
    """The problems cannot give a reward that is safe to train on; the message says which and why."""


class PolicyMismatch(RlError):
    """The sampler and the policy disagree on the probability of a sampled token: gradients would be wrong."""
