"""Starting pretraining from a model that was trained before (Ash & Adams 2020, "On warm-starting neural
network training"), e.g. when the corpus has grown. Only weights are taken over, neither optimizer state nor
schedule.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from codellm_dag.recipes.training_options import Start
from codellm_dag.stages.protocol import Inputs
from codellm_dag.tokens import tokenizer as tokenizers
from codellm_dag.training.rows import InvalidTrainingDataError


def start_of(recipe: Start, inputs: Inputs) -> Path | None:
    """The folder of the checkpoint to start from, None for a fresh start.

    Raises InvalidTrainingDataError where the input is missing, or has other tokens than
    `inputs["tokenizer"]`.
    """
    if recipe.how == "fresh":
        return None
    if "start" not in inputs:
        raise InvalidTrainingDataError(f"start.how = {recipe.how} needs the input start, a checkpoint")
    folder = inputs["start"].path
    here, there = (tokenizers.load(path).get_vocab() for path in (inputs["tokenizer"].path, folder))
    if here != there:
        raise InvalidTrainingDataError(
            f"the checkpoint to start from has other tokens ({len(there)}) than the tokenizer ({len(here)}); "
            "make the shards with its tokenizer, or set start.how to fresh"
        )
    return folder


def started_from(folder: Path, fresh: Any, recipe: Start) -> Any:
    """`fresh` with the weights in `folder` in place of its own, or as `recipe` mixes the two.

    Raises InvalidTrainingDataError for weights of other names or shapes.
    """
    from transformers import AutoModelForCausalLM

    trained = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    own, others = dict(fresh.named_parameters()), dict(trained.named_parameters())
    shapes, theirs = ({name: tuple(p.shape) for name, p in found.items()} for found in (own, others))
    if differ := sorted(name for name in {*shapes, *theirs} if shapes.get(name) != theirs.get(name)):
        name = differ[0]
        raise InvalidTrainingDataError(
            f"the checkpoint to start from has another shape: {name} is {theirs.get(name)}, model asks for "
            f"{shapes.get(name)}; set model as it was, or start.how to fresh"
        )
    shrink, perturb = (recipe.shrink, recipe.perturb) if recipe.how == "shrink_perturb" else (1.0, 0.0)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.mul_(perturb).add_(others[name], alpha=shrink)
    return fresh
