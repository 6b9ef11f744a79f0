"""AdamW, and Muon for the matrices of the blocks: one optimizer, in float32, the same bytes on every run.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum of a matrix by the
nearest orthogonal one, found by five Newton-Schulz steps, times the root of rows / columns where that is more
than 1. All constants are those of github.com/KellerJordan/Muon (muon.py). PyTorch's own runs the steps
in bfloat16, which many CPUs emulate very slowly; here they are float32, and matrices of one shape are one
batched product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from codellm_dag.recipes.training import Optimizer as OptimizerRecipe

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration (Jordan et al. 2024)."""

_MOMENTUM = 0.95
"""Muon's momentum, Nesterov's form (Jordan et al. 2024)."""


def make_optimizer(model: torch.nn.Module, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """The optimizer of `recipe` over all parameters of `model`; norms and embeddings do not decay."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    matrices = [p for name, p in named if p.ndim >= 2 and "embed" not in name and "lm_head" not in name]
    chosen = {id(parameter) for parameter in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    adamw = {"lr": recipe.learning_rate, "betas": (recipe.beta1, recipe.beta2), "eps": recipe.epsilon}
    if recipe.name == "adamw":
        groups = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, fused=True, **adamw)
    return MuonAdamW(matrices, rest, recipe.matrix_learning_rate, recipe.weight_decay, adamw)


class MuonAdamW(torch.optim.Optimizer):
    """Muon on `matrices` [rows, columns] or stacks of them (experts), AdamW on `rest`.

    Every group has its own learning rate.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        rest: Iterable[Tensor],
        matrix_learning_rate: float,
        weight_decay: float,
        adamw: dict[str, Any],
    ) -> None:
        muon = {"lr": matrix_learning_rate, "weight_decay": weight_decay}
        groups = [  # AdamW first: the learning rate that Trainer reports is the first group's
            {"params": list(rest), "weight_decay": 0.0, "muon": False, **adamw},
            {"params": list(matrices), "muon": True, **muon},
        ]
        super().__init__(groups, {"lr": matrix_learning_rate})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update from the gradients at hand."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adamw
            update([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        by_shape: dict[tuple[int, ...], list[Tensor]] = {}
        for parameter in parameters:
            stack, sides = parameter.shape[:-2], sorted(parameter.shape[-2:])
            by_shape.setdefault((*stack, *sides), []).append(parameter)
        for shape, same in by_shape.items():
            momenta = torch.stack([self._momentum(parameter) for parameter in same])
            updates = orthogonalized(momenta.flatten(0, -3)).view(len(same), *shape)
            for parameter, update in zip(same, updates, strict=True):
                rows, columns = parameter.shape[-2:]
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                update = update.mT if rows > columns else update
                parameter.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _momentum(self, parameter: Tensor) -> Tensor:
        """Nesterov momentum of the gradient, laid so that it has no more rows than columns."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient = parameter.grad
        assert gradient is not None
        state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        ahead = gradient.lerp(state["momentum"], _MOMENTUM)
        return ahead.mT if ahead.shape[-2] > ahead.shape[-1] else ahead

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Kingma and Ba 2015 with decoupled decay (Loshchilov and Hutter 2019)."""
        beta1, beta2 = group["betas"]
        for parameter in parameters:
            gradient = parameter.grad
            assert gradient is not None
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            state["step"] += 1
            steps = int(state["step"])
            state["mean"].lerp_(gradient, 1 - beta1)
            state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            scale = (state["square"] / (1 - beta2**steps)).sqrt_().add_(group["eps"])
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.addcdiv_(state["mean"], scale, value=-group["lr"] / (1 - beta1**steps))


def orthogonalized(matrices: Tensor, steps: int = 5) -> Tensor:
    """`matrices` [n, rows, columns], rows <= columns, with singular values brought near 1.

    Five steps bring those of at least 0.002 of the Frobenius norm to between 0.68 and 1.21.
    """
    a, b, c = _NEWTON_SCHULZ
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x
