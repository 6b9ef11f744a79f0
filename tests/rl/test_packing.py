"""A packed group has the log-probabilities and gradients of its plain sequences."""

from __future__ import annotations

import pytest
import torch

from codellm_dag.rl.packing import GroupTokens, micro_batches, pack, response_logprobs
from tests.modelkit.tiny import tiny_llama

GROUPS = [
    GroupTokens((5, 6, 7, 8), ((1, 2, 3), (9,), (1, 2, 4, 4, 4))),
    GroupTokens((11,), ((3, 3), (60, 1))),
    GroupTokens((5, 6), ((1, 2, 3),)),
]


def plain(model, group: GroupTokens, temperature: float) -> torch.Tensor:
    """The log-probabilities from one unpadded forward pass per response, with the model's own head."""
    results = []
    for response in group.responses:
        sequence = torch.tensor([group.prompt + response])
        logits = model(sequence).logits[0, len(group.prompt) - 1 : -1] / temperature
        results.append(torch.log_softmax(logits, -1).gather(-1, torch.tensor(response)[:, None]).squeeze(-1))
    return torch.cat(results)


@pytest.mark.parametrize(("temperature", "kv_heads"), [(1.0, 1), (0.7, 2)])
def test_packed_logprobs_equal_plain_ones(temperature: float, kv_heads: int):
    model = tiny_llama(kv_heads=kv_heads)
    packed = response_logprobs(model, pack(GROUPS), temperature)
    expected = torch.cat([plain(model, group, temperature) for group in GROUPS])
    assert packed.shape == (sum(group.response_tokens for group in GROUPS),)
    torch.testing.assert_close(packed, expected, atol=2e-5, rtol=1e-4)
    assert expected.std() > 0.5  # the model is not nearly uniform, so that equality says something


def test_packed_gradients_equal_plain_ones():
    model = tiny_llama()
    weights = torch.linspace(-1, 1, sum(group.response_tokens for group in GROUPS))
    gradients = []
    for logprobs in (
        response_logprobs(model, pack(GROUPS), 1.0),
        torch.cat([plain(model, group, 1.0) for group in GROUPS]),
    ):
        model.zero_grad()
        (logprobs * weights).sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-3)


def test_layout_of_a_row():
    rows = pack([GroupTokens((5, 6), ((1, 2), (3,))), GroupTokens((7,), ((4,),))])
    assert rows.tokens.tolist() == [[5, 6, 1, 2, 3], [7, 4, 0, 0, 0]]
    assert rows.positions.tolist() == [[0, 1, 2, 3, 2], [0, 1, 0, 0, 0]]
    assert rows.sources.tolist() == [1, 2, 1, 5]
    assert rows.targets.tolist() == [1, 2, 3, 4]
    assert rows.visible[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert rows.visible[1, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]


def test_micro_batches_fill_the_budget_longest_first():
    groups = [GroupTokens((0,) * n, ((1,),)) for n in (3, 9, 4, 3, 30)]
    # Lengths 4, 10, 5, 4, 31. Budget 20: the 31 alone, 10 and 5 (2 * 10), then 4 and 4.
    assert micro_batches(groups, 20) == [[4], [1, 2], [0, 3]]
    assert micro_batches([], 20) == []
