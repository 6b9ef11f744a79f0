"""Opening a checkpoint folder, and the chat prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from codellm_dag.generation import chat_prompt, load_model
from tests.modelkit.tiny import byte_tokenizer, save_checkpoint


def test_a_saved_checkpoint_is_loaded(tmp_path: Path) -> None:
    model, tokenizer = load_model(save_checkpoint(tmp_path / "model", chat=True))
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert tokenizer.decode(tokenizer.encode("def f():")) == "def f():"


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        load_model(tmp_path)


def test_chat_prompt_ends_where_the_answer_begins() -> None:
    text = chat_prompt(byte_tokenizer(), "def f():")
    assert text == "<|im_start|>user\ndef f():<|im_end|>\n<|im_start|>assistant\n"
