"""Chat messages to tokens: what is learnt is exactly the assistant's answer and its end token."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codellm_dag.stages.protocol import Inputs
from codellm_dag.tokens import tokenizer as tokenizers
from codellm_dag.training.chat_examples import read_messages, tokenized
from codellm_dag.training.rows import InvalidTrainingDataError

TALK = [
    {"role": "user", "content": "def f(x):"},
    {"role": "assistant", "content": "    return x"},
    {"role": "user", "content": "again"},
    {"role": "assistant", "content": "    return 2"},
]


def learnt_text(folder: Path, messages: list[dict[str, str]]) -> tuple[str, list[str]]:
    """The whole conversation's text, and the runs of learnt tokens as text."""
    (example,) = tokenized([messages], folder)
    loaded = tokenizers.load(folder)
    runs: list[list[int]] = []
    for number, (token, learnt) in enumerate(zip(example.tokens, example.learnt, strict=True)):
        if learnt and (not number or not example.learnt[number - 1]):
            runs.append([])
        if learnt:
            runs[-1].append(token)
    decode = lambda ids: loaded.decode(ids, skip_special_tokens=False)  # noqa: E731
    return decode(example.tokens), [decode(run) for run in runs]


def test_answers_and_their_ends_are_learnt(inputs: Inputs) -> None:
    text, runs = learnt_text(inputs["tokenizer"].path, TALK)
    assert text == (
        "<|im_start|>user\ndef f(x):<|im_end|>\n<|im_start|>assistant\n    return x<|im_end|>\n"
        "<|im_start|>user\nagain<|im_end|>\n<|im_start|>assistant\n    return 2<|im_end|>"
    )
    assert runs == ["    return x<|im_end|>", "    return 2<|im_end|>"]


def test_another_template_is_read_with_jinja(inputs: Inputs, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(inputs["tokenizer"].path, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = (
        "{% for m in messages %}{{ '[' + m['role'] + ']' + m['content'] + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    text, runs = learnt_text(folder, TALK[:2])
    assert (text, runs) == ("[user]def f(x):\n[assistant]    return x", ["    return x"])


def test_bad_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidTrainingDataError, match=r"train\.parquet does not exist"):
        read_messages(tmp_path)
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "train.parquet")
    with pytest.raises(InvalidTrainingDataError, match="has no column messages"):
        read_messages(tmp_path)
    pq.write_table(pa.table({"messages": [TALK, TALK[:1]]}), tmp_path / "train.parquet")
    with pytest.raises(InvalidTrainingDataError, match="conversation 1 has no turn of the assistant"):
        read_messages(tmp_path)
    assert read_messages(tmp_path, limit=1) == [TALK]
