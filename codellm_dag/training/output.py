"""A trained model's folder: Hugging Face files, the tokenizer beside them, and training.json."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from codellm_dag.recipes.base import Recipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.tokens.special import END_OF_TEXT, MESSAGE_END
from codellm_dag.training.processes import Processes

TRAINING_FILE = "training.json"
_WEIGHTS = (".safetensors", ".bin", ".pt")
_OF_THE_MODEL = ("config.json", "generation_config.json", "model.safetensors.index.json", TRAINING_FILE)


def run_identity(recipe: Recipe, inputs: Inputs, threads: int) -> str:
    """What a checkpoint to resume from must agree on: recipe, inputs by content, threads, PyTorch.

    Not the number of processes: see `checkpoints.py`.
    """
    payload = {
        "recipe": recipe.model_dump(mode="json"),
        "inputs": {slot: inputs[slot].content_digest for slot in inputs},
        "threads": threads,
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def save_checkpoint(out: Path, model: Any, tokenizer: Path, chat: bool, facts: Mapping[str, Any]) -> None:
    """Write `model` to `out` as `save_model` does, and make generation end where this training taught it to.

    `chat` says that the model answers chat turns: generation then ends at the end of a message.
    """
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    ends = [vocabulary.token_to_id(name) for name in ([MESSAGE_END] if chat else []) + [END_OF_TEXT]]
    model.generation_config.eos_token_id = ends if chat else ends[0]
    model.generation_config.pad_token_id = ends[-1]
    save_model(out, model, tokenizer, {"chat": chat, **facts})


def save_model(out: Path, model: Any, tokenizer: Path, facts: Mapping[str, Any]) -> None:
    """Write `model`, the tokenizer's files in folder `tokenizer` (another model's folder will do), and
    training.json with `facts` (stage, chat, recipe, steps, tokens) to `out`.

    No pickles, the same bytes every time. In a group rank 0 writes.
    """
    if not Processes.join().first:
        return
    model.save_pretrained(out)
    for path in out.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes files that only their owner may read
    copy_tokenizer(tokenizer, out)
    write_json(out / TRAINING_FILE, facts)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` to `path`, the same bytes for the same values; its folder is made."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def copy_tokenizer(folder: Path, out: Path) -> None:
    """Copy the tokenizer's files in `folder`, which may be a model's folder, to `out`."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix not in _WEIGHTS and path.name not in _OF_THE_MODEL:
            shutil.copyfile(path, out / path.name)
