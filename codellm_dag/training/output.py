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

TRAINING_FILE = "training.json"


def run_identity(recipe: Recipe, inputs: Inputs, threads: int) -> str:
    """What a checkpoint to resume from must agree on: recipe, inputs by content, threads, PyTorch."""
    payload = {
        "recipe": recipe.model_dump(mode="json"),
        "inputs": {slot: inputs[slot].content_digest for slot in inputs},
        "threads": threads,
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()


def save_checkpoint(out: Path, model: Any, tokenizer: Path, chat: bool, facts: Mapping[str, Any]) -> None:
    """Write `model` and the files of the `tokenizer` folder to `out`; no pickles, the same bytes every time.

    `chat` says that the model answers chat turns: generation then ends at the end of a message. `facts`
    (stage, recipe, steps, tokens, …) go to training.json.
    """
    from tokenizers import Tokenizer

    vocabulary = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    ends = [vocabulary.token_to_id(name) for name in ([MESSAGE_END] if chat else []) + [END_OF_TEXT]]
    model.generation_config.eos_token_id = ends if chat else ends[0]
    model.generation_config.pad_token_id = ends[-1]
    model.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # safetensors writes files that only their owner may read
    for path in sorted(tokenizer.iterdir()):
        if path.is_file():
            shutil.copyfile(path, out / path.name)
    text = json.dumps({"chat": chat, **facts}, indent=1, sort_keys=True) + "\n"
    (out / TRAINING_FILE).write_text(text, encoding="utf-8")
