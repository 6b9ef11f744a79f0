"""How a step is computed: precision, recomputation, compilation, fused kernels; what a machine cannot."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.training_options import Compute
from codellm_dag.training.model import causal_model

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Of a recipe's precision; float32 has none."""


def check_compute(recipe: Compute, *, fp16_needs_gpu: bool = True) -> None:
    """Raise InvalidRecipeError if this machine cannot compute so.

    ``fp16_needs_gpu``: whether the trainer scales losses on GPUs only.
    """
    gpu = torch.cuda.is_available()
    if recipe.precision == "fp16" and fp16_needs_gpu and not gpu:
        raise InvalidRecipeError("compute.precision = fp16: needs a GPU; allowed here: fp32, bf16")
    if recipe.precision == "bf16" and gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InvalidRecipeError("compute.precision = bf16: this GPU has none; allowed here: fp32, fp16")
    if recipe.liger and not gpu:
        raise InvalidRecipeError("compute.liger = True: its kernels need a GPU; allowed here: False")
    if recipe.liger and importlib.util.find_spec("liger_kernel") is None:
        raise InvalidRecipeError("compute.liger = True: needs the package 'liger-kernel'; install it")


def compute_arguments(recipe: Compute) -> dict[str, Any]:
    """Values of `TrainingArguments`."""
    return {
        "bf16": recipe.precision == "bf16",
        "fp16": recipe.precision == "fp16",
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if recipe.gradient_checkpointing else None,
        "use_liger_kernel": recipe.liger,
    }


def prepare(model: Any, recipe: Compute) -> None:
    """Compile the blocks of `model` in place, once, where the recipe says so; weights keep their names."""
    body = causal_model(model).base_model
    if recipe.compile and body._compiled_call_impl is None:
        body.compile()


def autocast(recipe: Compute) -> AbstractContextManager[Any]:
    """The context of the forward pass."""
    if recipe.precision == "fp32":
        return nullcontext()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, HALF[recipe.precision])
