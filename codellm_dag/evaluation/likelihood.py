"""Bits that a model spends on texts, with a sliding window over long ones.

A text is scored from its first token: a start token (the tokenizer's bos, else eos, token: what separated
documents in training) stands before it. The first window scores up to ``window_tokens`` tokens; every further
window moves on and scores the next ``stride_tokens``, each with at least ``window_tokens - stride_tokens``
tokens of context. With a stride of half a window this is within about 1 % of moving token by token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from codellm_dag.evaluation.errors import BadInput
from codellm_dag.recipes.evaluation import BitsPerByteRecipe


@dataclass(frozen=True)
class Window:
    """Inputs ``sequence[start:end]`` of one text predict the targets ``sequence[first + 1 : end + 1]``."""

    text: int
    start: int
    first: int
    end: int


def windows(text: int, targets: int, window: int, stride: int) -> Iterator[Window]:
    """Windows that score each of the `targets` tokens of text number `text` exactly once, in order.

    Positions count from the start token, which is 0 and no target.
    """
    scored = 0
    while scored < targets:
        end = min(targets, window if scored == 0 else scored + stride)
        yield Window(text, max(0, end - window), scored, end)
        scored = end


def document_bits(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    recipe: BitsPerByteRecipe,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[float]:
    """Total bits (negative log2-likelihood) of each text; `on_progress` is told tokens done and in all.

    Raises BadInput if the window is longer than the model's positions, the tokenizer has no start token, or a
    text holds a character that the tokenizer cannot represent.
    """
    _check_window(model, recipe)
    sequences = [_encode(tokenizer, text) for text in texts]
    todo = [
        window
        for number, sequence in enumerate(sequences)
        for window in windows(number, len(sequence) - 1, recipe.window_tokens, recipe.stride_tokens)
    ]
    # Longest first: rows of a batch are about equally long. Sums below are per text, in order of windows.
    todo.sort(key=lambda window: (window.start - window.end, window.text, window.start))
    nats: list[dict[int, float]] = [{} for _ in texts]
    done, total = 0, sum(window.end - window.first for window in todo)
    for start in range(0, len(todo), recipe.batch_size):
        batch = todo[start : start + recipe.batch_size]
        for window, value in zip(batch, _window_nats(model, sequences, batch), strict=True):
            nats[window.text][window.first] = value
            done += window.end - window.first
        if on_progress is not None:
            on_progress(done, total)
    return [math.fsum(parts.values()) / math.log(2) for parts in nats]


def _check_window(model: Any, recipe: BitsPerByteRecipe) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit and recipe.window_tokens > limit:
        raise BadInput(
            f"bits_per_byte.window_tokens = {recipe.window_tokens} is above the model's {limit} positions; "
            "lower it"
        )


def _encode(tokenizer: Any, text: str) -> list[int]:
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise BadInput("the tokenizer has neither a bos_token nor an eos_token to start a document with")
    ids = tokenizer.encode(text, add_special_tokens=False)
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown != start and unknown in ids:
        raise BadInput("the tokenizer maps part of a document to its unknown token: bits would be too few")
    return [start, *ids]


def _window_nats(model: Any, sequences: Sequence[list[int]], batch: Sequence[Window]) -> list[float]:
    longest = max(window.end - window.start for window in batch)
    tokens = torch.zeros(len(batch), longest, dtype=torch.long)
    targets = torch.full((len(batch), longest), -100)
    for row, window in enumerate(batch):
        sequence = sequences[window.text]
        length = window.end - window.start
        tokens[row, :length] = torch.tensor(sequence[window.start : window.end])
        skip = window.first - window.start
        targets[row, skip:length] = torch.tensor(sequence[window.first + 1 : window.end + 1])
    with torch.inference_mode():
        # Padding on the right is never seen by earlier positions of a causal model: no mask is needed.
        logits = model(input_ids=tokens, use_cache=False).logits.float()
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none", ignore_index=-100)
    return losses.view(len(batch), longest).double().sum(1).tolist()
