"""From chat messages to token ids with a mark on what the assistant said.

The tokenizer's own chat template says what a conversation looks like. The assistant's part of it is what the
template adds to the conversation up to there with the generation prompt; its end-of-message token is learnt,
white space after it is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from codellm_dag.tokens.special import CHAT_TEMPLATE, chat_text
from codellm_dag.training.rows import Example, InvalidTrainingDataError

Message = dict[str, str]

DATA_FILE = "train.parquet"


def read_messages(folder: Path, limit: int = 0) -> list[list[Message]]:
    """Conversations in `folder` in file order, the first `limit` of them (0: all).

    Raises InvalidTrainingDataError for a missing file or column, or a conversation in which no assistant
    speaks.
    """
    path = folder / DATA_FILE
    if not path.is_file():
        raise InvalidTrainingDataError(f"{path} does not exist; chat data is one file {DATA_FILE}")
    if "messages" not in pq.read_schema(path).names:
        raise InvalidTrainingDataError(f"{path} has no column messages (a list of role and content)")
    conversations = pq.read_table(path, columns=["messages"])["messages"].to_pylist()
    conversations = conversations[:limit] if limit else conversations
    for number, messages in enumerate(conversations):
        if not any(message["role"] == "assistant" for message in messages):
            raise InvalidTrainingDataError(f"{path}: conversation {number} has no turn of the assistant")
    return conversations


def tokenized(conversations: Sequence[list[Message]], folder: Path) -> Iterator[Example]:
    """Examples from `conversations` with the tokenizer in `folder` and its template."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    render = _renderer(folder)
    parts = [list(_parts(messages, render)) for messages in conversations]
    texts = [text for row in parts for text, _ in row]
    encodings = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    for row in parts:
        tokens: list[int] = []
        learnt: list[bool] = []
        for _, answer in row:
            ids = next(encodings).ids
            tokens += ids
            learnt += [answer] * len(ids)
        yield Example(tokens, learnt)


def _parts(messages: list[Message], render: Any) -> Iterator[tuple[str, bool]]:
    """The conversation's text in order, cut where the assistant starts and ends; True for its own words."""
    done = ""
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = render(messages[:number], True)
        after = render(messages[: number + 1], False).rstrip()
        yield before[len(done) :], False
        yield after[len(before) :], True
        done = after


def _renderer(folder: Path) -> Any:
    """A function of messages and add_generation_prompt; without Jinja where the template is our own."""
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if config.get("chat_template") == CHAT_TEMPLATE:
        return chat_text
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return lambda messages, prompt: tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=prompt
    )
