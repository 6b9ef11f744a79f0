"""Which sizes of a recipe Megatron's parallel degrees divide; asked before a launch, so without PyTorch."""

from __future__ import annotations

from codellm_dag.recipes.backends import Backend
from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.training.architecture import Architecture, of_shape


def indivisible(recipe: PretrainingRecipe) -> list[str]:
    """A line for each size of the recipe's model that the parallel degrees do not divide."""
    return indivisible_sizes(of_shape(recipe.model, 0), recipe.backend)


def indivisible_sizes(model: Architecture, backend: Backend) -> list[str]:
    """A line for each size that the parallel degrees do not divide, named as in `ModelShape`."""
    tensor, pipeline = backend.tensor_parallel, backend.pipeline_parallel
    lines = [
        f"model.{name} = {size}: backend.{by} = {degree} does not divide it; allowed: a multiple of "
        f"{degree}, or backend.{by} one of {divisors(size)}"
        for name, size, by, degree in (
            ("hidden_size", model.hidden, "tensor_parallel", tensor),
            ("heads", model.heads, "tensor_parallel", tensor),
            ("intermediate_size", model.intermediate, "tensor_parallel", tensor),
            ("layers", model.layers, "pipeline_parallel", pipeline),
        )
        if size % degree
    ]
    if model.kv_heads % tensor and tensor % model.kv_heads:
        lines.append(
            f"model.kv_heads = {model.kv_heads}: must be a multiple or a divisor of backend.tensor_parallel "
            f"= {tensor}; allowed: backend.tensor_parallel one of {divisors(model.kv_heads)}, or a multiple"
        )
    experts = backend.expert_parallel
    if experts > 1 and not model.experts:
        lines.append(f"backend.expert_parallel = {experts}: a dense model; allowed: 1")
    elif model.experts % experts:
        lines.append(
            f"model.experts = {model.experts}: backend.expert_parallel = {experts} does not divide it; "
            f"allowed: a multiple of {experts}, or backend.expert_parallel one of {divisors(model.experts)}"
        )
    return lines


def divisors(size: int) -> str:
    """The divisors of `size` up to 64, as words."""
    return ", ".join(str(number) for number in range(1, min(size, 64) + 1) if size % number == 0)
