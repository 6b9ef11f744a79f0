"""The forward pass on packed rows: no attention across documents, loss where there is a target."""

from __future__ import annotations

import math

import torch

from codellm_dag.recipes.training import ModelShape
from codellm_dag.training.model import new_model, target_losses, visible
from codellm_dag.training.rows import IGNORED
from tests.modelkit.tiny import tiny_llama

FIRST, SECOND = [5, 9, 3, 7], [8, 2, 6]


def losses(model: object, *pieces: list[int]) -> torch.Tensor:
    """Losses of all targets of `pieces` packed into one row, in their order."""
    tokens = torch.tensor([[token for piece in pieces for token in piece]])
    positions = torch.tensor([[number for piece in pieces for number in range(len(piece))]])
    targets = torch.tensor([[token for piece in pieces for token in [*piece[1:], IGNORED]]])
    with torch.no_grad():
        return target_losses(model, tokens, positions, targets, IGNORED)


def test_visible_by_hand() -> None:
    mask = visible(torch.tensor([[0, 1, 0, 1]]))[0, 0].int().tolist()
    assert mask == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]


def test_a_neighbour_changes_nothing() -> None:
    model = tiny_llama()
    alone = torch.cat([losses(model, FIRST), losses(model, SECOND)])
    together, swapped = losses(model, FIRST, SECOND), losses(model, SECOND, FIRST)
    other = losses(model, [1, 1, 1, 1], SECOND)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.cat([swapped[2:], swapped[:2]]), alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(other[3:], alone[3:], atol=1e-5, rtol=1e-5)


def test_without_the_mask_a_neighbour_would_change_the_loss() -> None:
    model = tiny_llama()
    joined = losses(model, FIRST + SECOND)
    assert (joined[4:] - losses(model, SECOND)).abs().max() > 0.1


def test_loss_of_a_new_model_is_that_of_a_uniform_guess() -> None:
    shape = ModelShape(hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=128)
    model = new_model(shape, vocabulary_size=500, end_of_text=0, seed=0)
    mean = float(losses(model, list(range(100, 200))).mean())
    assert abs(mean - math.log(500)) < 0.1


def test_losses_equal_those_of_transformers() -> None:
    model = tiny_llama()
    tokens = torch.tensor([FIRST])
    with torch.no_grad():
        theirs = model(input_ids=tokens, labels=tokens).loss
    torch.testing.assert_close(losses(model, FIRST).mean(), theirs)


def test_weights_follow_from_the_seed() -> None:
    shape = ModelShape(hidden_size=32, layers=1, heads=2, kv_heads=2, intermediate_size=32)
    one, same, other = (new_model(shape, 100, 0, seed).lm_head.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
