"""Opening a checkpoint folder for inference, and the two ways a prompt is put to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_model(folder: Path) -> tuple[Any, Any]:
    """The model (eval mode, float32) and tokenizer of a Hugging Face `folder`; nothing is downloaded.

    Raises FileNotFoundError when the folder holds no model.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json; a checkpoint is a Hugging Face model folder")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def chat_prompt(tokenizer: Any, user: str) -> str:
    """The text that asks a chat model to answer `user`, by the tokenizer's own chat template."""
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": user}], tokenize=False, add_generation_prompt=True
    )
