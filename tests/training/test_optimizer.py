"""AdamW and Muon against PyTorch's own and against the definition; the schedule at its corners."""

from __future__ import annotations

import pytest
import torch

from codellm_dag.recipes.training import Optimizer
from codellm_dag.training.optimizer import MuonAdamW, make_optimizer, orthogonalized
from codellm_dag.training.schedule import learning_rate_share


def test_adamw_equals_pytorchs() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.randn(4, 5, requires_grad=True), torch.zeros(4, 5, requires_grad=True)
    theirs.data.copy_(ours.data)
    adamw = {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-8}
    left = MuonAdamW([], [ours], 0.02, 0.0, adamw)
    right = torch.optim.AdamW([theirs], weight_decay=0.0, **adamw)
    for step in range(5):
        gradient = torch.full((4, 5), 0.3 * (step + 1)).sin() * torch.arange(20.0).view(4, 5)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        left.step()
        right.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_orthogonalized_brings_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for update in orthogonalized(torch.randn(3, 16, 40)):
        values = torch.linalg.svdvals(update)
        assert values.min() > 0.6
        assert values.max() < 1.3


def test_muon_moves_along_the_singular_vectors_of_the_gradient() -> None:
    # One step from zero momentum: the gradient of rank one u v' becomes about u v' / (|u||v|).
    parameter = torch.zeros(6, 3, requires_grad=True)
    u, v = torch.arange(1.0, 7.0), torch.tensor([1.0, -2.0, 3.0])
    parameter.grad = torch.outer(u, v)
    MuonAdamW([parameter], [], 0.5, 0.0, {"lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-8}).step()
    direction = torch.outer(u / u.norm(), v / v.norm())
    step = -parameter.detach() / (0.5 * 2**0.5)  # learning rate times sqrt(rows / columns)
    scale = float((step * direction).sum())
    assert 0.6 < scale < 1.3
    torch.testing.assert_close(step, scale * direction, atol=1e-4, rtol=0)


def test_which_tensors_get_which_rule() -> None:
    from tests.modelkit.tiny import tiny_llama

    model = tiny_llama()
    rest, matrices = make_optimizer(model, Optimizer(name="muon")).param_groups
    assert all(parameter.ndim == 2 for parameter in matrices["params"])
    assert {tuple(parameter.shape) for parameter in rest["params"]} == {(64, 32), (32,)}
    decayed, plain = make_optimizer(model, Optimizer(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert len(matrices["params"]) == len(decayed["params"]) == 14


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 0.5), (1, 1.0), (2, 1.0), (19, 0.1)],
)
def test_cosine_by_hand(step: int, share: float) -> None:
    # 20 steps, 10 % warm-up: two steps up, then from the peak in step 2 to a tenth of it in step 19.
    recipe = Optimizer(schedule="cosine", warmup_fraction=0.1, final_fraction=0.1)
    assert learning_rate_share(step, 20, recipe) == pytest.approx(share)


def test_other_schedules_by_hand() -> None:
    linear = Optimizer(schedule="linear", warmup_fraction=0, final_fraction=0)
    assert [learning_rate_share(step, 5, linear) for step in range(5)] == pytest.approx(
        [1, 0.75, 0.5, 0.25, 0]
    )
    stable = Optimizer(
        schedule="warmup_stable_decay", warmup_fraction=0, decay_fraction=0.5, final_fraction=0
    )
    assert [learning_rate_share(step, 5, stable) for step in range(5)] == pytest.approx([1, 1, 1, 0.5, 0])
    constant = Optimizer(schedule="constant", warmup_fraction=0)
    assert learning_rate_share(4, 5, constant) == 1.0
