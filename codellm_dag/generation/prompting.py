"""How a checkpoint wants to be asked: whether it is a chat model, and token ids that leave room to answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def is_chat_checkpoint(folder: Path) -> bool:
    """Whether the checkpoint in `folder` was trained on chat turns: ``"chat": true`` in its training.json.

    A folder without training.json (an outside model) counts as chat if its tokenizer has a chat template.
    """
    path = folder / "training.json"
    if path.is_file():
        return bool(json.loads(path.read_text(encoding="utf-8")).get("chat", False))
    if (folder / "chat_template.jinja").is_file():
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(json.loads(config.read_text(encoding="utf-8")).get("chat_template"))


def prompt_ids(tokenizer: Any, text: str, room: int, positions: int | None) -> tuple[Sequence[int], bool]:
    """Token ids of `text`, and whether its start was cut so that `room` new tokens fit into `positions`.

    Raises ValueError when `room` alone fills the positions.
    """
    ids = tokenizer.encode(text, add_special_tokens=False)
    if positions is None or len(ids) + room <= positions:
        return ids, False
    if room >= positions:
        raise ValueError(
            f"max_new_tokens = {room} leaves no room for a prompt in {positions} positions; lower it"
        )
    return ids[len(ids) + room - positions :], True
