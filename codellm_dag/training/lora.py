"""Low-rank adapters (LoRA, Hu et al. 2021) through PEFT: put beside matrices, and merged into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.training_options import Lora
from codellm_dag.training.output import write_json

ADAPTER = "adapter"
"""Folder of a checkpoint with the adapters alone."""


def with_adapters(model: Any, recipe: Lora, seed: int) -> Any:
    """`model` with new adapters, drawn from `seed`, beside all matrices but the output's; else frozen.

    Raises InvalidRecipeError if PEFT is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise InvalidRecipeError(
            f"lora.rank = {recipe.rank}: needs the package 'peft', which is not installed; install it or set "
            "lora.rank to 0"
        ) from error
    torch.manual_seed(seed)
    return get_peft_model(
        model,
        LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,  # pyright: ignore[reportArgumentType]
            lora_dropout=recipe.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )


def merged(model: Any, out: Path) -> Any:
    """Write the adapters of `model` to ``out/adapter``, and return the model with them in its weights."""
    folder = out / ADAPTER
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = folder / "adapter_config.json"
    values = json.loads(config.read_text(encoding="utf-8"))
    values["base_model_name_or_path"] = None  # a path of this machine
    values["target_modules"] = sorted(values["target_modules"])
    write_json(config, values)
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)
    return model.merge_and_unload()
