"""The update against an independent, unpacked computation with autograd and plain AdamW."""

from __future__ import annotations

import copy

import pytest
import torch

from codellm_dag.recipes.rl import PolicyOptimiserRecipe, RlRecipe
from codellm_dag.rl.errors import PolicyMismatch
from codellm_dag.rl.packing import GroupTokens
from codellm_dag.rl.rollouts import TrainedGroup
from codellm_dag.rl.update import PolicyUpdater, learning_rate
from tests.modelkit.tiny import tiny_llama


def sequence_logprobs(model, prompt: tuple[int, ...], response: tuple[int, ...], temperature: float = 1.0):
    logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1] / temperature
    return torch.log_softmax(logits, -1).gather(-1, torch.tensor(response)[:, None]).squeeze(-1)


def trained(model, prompt, responses, advantages, temperature: float = 1.0) -> TrainedGroup:
    with torch.no_grad():
        sampled = tuple(
            tuple(sequence_logprobs(model, prompt, response, temperature).tolist()) for response in responses
        )
    return TrainedGroup(GroupTokens(prompt, responses), advantages, sampled)


def batch(model, temperature: float = 1.0) -> list[TrainedGroup]:
    return [
        trained(model, (5, 6, 7), ((1, 2, 3), (9,)), (1.0, -1.0), temperature),
        trained(model, (8, 9), ((4, 4), (7, 1, 1, 2), (3,)), (0.5, -1.0, 0.5), temperature),
        trained(model, (3,), ((11, 12),), (0.25,), temperature),
    ]


def recipe(**changes) -> RlRecipe:
    values = {"steps": 10, "optimiser": {"warmup_steps": 0, "learning_rate": 0.01, "weight_decay": 0.1}}
    return RlRecipe.parse({**values, **changes})


@pytest.mark.parametrize("micro_batch_tokens", [64, 8192])
@pytest.mark.parametrize("kind", ["policy_gradient", "clipped"])
def test_one_update_equals_plain_autograd_and_adamw(kind: str, micro_batch_tokens: int):
    model = tiny_llama()
    expected = copy.deepcopy(model)
    groups = batch(model, temperature=0.8)
    knobs = recipe(loss={"kind": kind}, rollouts={"temperature": 0.8}, micro_batch_tokens=micro_batch_tokens)
    statistics = PolicyUpdater(model, knobs).update(groups, 0)

    optimiser = torch.optim.AdamW(expected.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    total, tokens = torch.zeros(()), 0
    for group in groups:
        for response, advantage in zip(group.tokens.responses, group.advantages, strict=True):
            logprobs = sequence_logprobs(expected, group.tokens.prompt, response, 0.8)
            total, tokens = total - advantage * logprobs.sum(), tokens + len(response)
    assert tokens == 13
    (total / tokens).backward()
    norm = torch.nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
    optimiser.step()
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        # Adam divides by |gradient|: where it is near 0 the step's size is rounding.
        close = torch.isclose(ours, theirs, atol=2e-4)
        assert close.float().mean() > 0.999
    assert statistics["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
    assert statistics["logprob_gap"] < 1e-5
    assert statistics["clipped_share"] == 0
    assert statistics["learning_rate"] == 0.01
    if kind == "policy_gradient":
        assert statistics["loss"] == pytest.approx(total.item() / tokens, rel=1e-4)


def test_the_update_raises_what_was_good_and_lowers_what_was_bad():
    model = tiny_llama()
    groups = [trained(model, (5, 6), ((1, 2, 3), (9, 8)), (1.0, -1.0))]
    updater = PolicyUpdater(model, recipe())
    before = [sum(row) for row in groups[0].sampled_logprobs]
    updater.update(groups, 0)
    after = [sequence_logprobs(model, (5, 6), response).sum().item() for response in ((1, 2, 3), (9, 8))]
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_kl_term_pulls_back_to_the_reference():
    model = tiny_llama()
    reference = copy.deepcopy(model)
    groups = [trained(model, (5, 6), ((1, 2, 3), (9, 8)), (1.0, -1.0))]
    free = PolicyUpdater(model, recipe())
    free.update(groups, 0)
    tokens = [group.tokens for group in groups]
    drifted = free.divergence(tokens, reference)
    assert drifted > 0
    neutral = [trained(model, (5, 6), ((1, 2, 3), (9, 8)), (0.0, 0.0))]
    tied = PolicyUpdater(model, recipe(loss={"kl_coefficient": 1.0}), reference)
    statistics = tied.update(neutral, 0)
    assert statistics["kl"] == pytest.approx(drifted, rel=1e-4)
    assert statistics["loss"] == pytest.approx(drifted, rel=1e-4)
    assert tied.divergence(tokens, reference) < drifted


def test_minibatches_make_several_updates_against_the_old_policy():
    model = tiny_llama()
    groups = batch(model)
    updater = PolicyUpdater(model, recipe(loss={"minibatches": 2, "clip_low": 1e-6, "clip_high": 1e-6}))
    statistics = updater.update(groups, 0)
    assert updater.optimiser.state_dict()["state"][0]["step"] == 2
    # In the first update every ratio is 1; in the second, ratios have moved past the tiny clip range.
    assert 0 < statistics["clipped_share"] < 1


def test_epochs_use_a_batch_again_against_the_same_old_policy():
    model = tiny_llama()
    groups = batch(model)
    updater = PolicyUpdater(model, recipe(loss={"epochs": 3, "clip_low": 1e-6, "clip_high": 1e-6}))
    statistics = updater.update(groups, 0)
    assert updater.optimiser.state_dict()["state"][0]["step"] == 3
    # Nothing is clipped in the first of the three, whose ratios are 1; all moves later pass the tiny range.
    assert statistics["clipped_share"] == pytest.approx(2 / 3)
    assert statistics["logprob_gap"] < 1e-5


def test_no_groups_is_no_update():
    model = tiny_llama()
    before = copy.deepcopy(model.state_dict())
    updater = PolicyUpdater(model, recipe())
    assert updater.update([], 3) == {"learning_rate": 0.01}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_sampler_that_disagrees_with_the_policy_stops_the_run():
    model = tiny_llama()
    good = trained(model, (5, 6), ((1, 2),), (1.0,))
    wrong = TrainedGroup(good.tokens, good.advantages, ((-0.1, -0.1),))
    with pytest.raises(PolicyMismatch, match="nats a token"):
        PolicyUpdater(model, recipe()).update([wrong], 0)


def test_a_kl_coefficient_needs_a_reference():
    with pytest.raises(ValueError, match="no reference"):
        PolicyUpdater(tiny_llama(), recipe(loss={"kl_coefficient": 0.1}))


def test_learning_rates_by_hand():
    constant = PolicyOptimiserRecipe(learning_rate=0.3, warmup_steps=2)
    assert [learning_rate(constant, step, 5) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.3])
    linear = PolicyOptimiserRecipe(learning_rate=0.3, warmup_steps=2, decay="linear")
    assert [learning_rate(linear, step, 5) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.2, 0.1])
