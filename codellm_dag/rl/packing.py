"""One row per group: the prompt once, then all its responses side by side, under a tree attention mask.

Each response sees the prompt and itself, at the positions it had when it was sampled, so its
log-probabilities are those of the plain sequence while the prompt is computed once instead of once per
response. Where prompts are longer than responses this saves more than half of the update's arithmetic. Needs
a model with full attention that takes a 4-D mask, as those of transformers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class GroupTokens:
    """The token ids of a prompt (at least one) and of its responses (each at least one)."""

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """Tokens in the packed row."""
        return len(self.prompt) + sum(map(len, self.responses))

    @property
    def response_tokens(self) -> int:
        """Tokens whose log-probabilities are computed."""
        return sum(map(len, self.responses))


@dataclass(frozen=True)
class PackedRows:
    """Rows of a micro-batch. ``tokens``, ``positions``: int64 [rows, length]. ``visible``: bool
    [rows, 1, length, length]. ``sources``: int64 [n], where in the flattened rows the hidden state lies that
    predicts ``targets`` [n]; n runs over groups, their responses, and the responses' tokens, in order.
    """

    tokens: Tensor
    positions: Tensor
    visible: Tensor
    sources: Tensor
    targets: Tensor


def micro_batches(groups: Sequence[GroupTokens], budget: int) -> list[list[int]]:
    """Indices of `groups` in micro-batches of at most `budget` padded tokens (a longer group alone).

    Longest first, so that rows of a micro-batch have about equal lengths; ties in the given order.
    """
    order = sorted(range(len(groups)), key=lambda index: (-groups[index].length, index))
    batches: list[list[int]] = []
    for index in order:
        batch = batches[-1] if batches else None
        if batch is not None and groups[batch[0]].length * (len(batch) + 1) <= budget:
            batch.append(index)
        else:
            batches.append([index])
    return batches


def pack(groups: Sequence[GroupTokens]) -> PackedRows:
    """Lay out `groups`, one a row, padded on the right to the longest."""
    rows, width = len(groups), max(group.length for group in groups)
    tokens = torch.zeros(rows, width, dtype=torch.long)
    positions = torch.zeros(rows, width, dtype=torch.long)
    # Segment 0 is the prompt, 1.. the responses, -1 and below padding (each pad alone, so it sees itself).
    segments = -1 - torch.arange(width).repeat(rows, 1)
    sources: list[int] = []
    targets: list[int] = []
    for row, group in enumerate(groups):
        prompt = len(group.prompt)
        tokens[row, :prompt] = torch.tensor(group.prompt)
        positions[row, :prompt] = torch.arange(prompt)
        segments[row, :prompt] = 0
        start = prompt
        for number, response in enumerate(group.responses, start=1):
            end = start + len(response)
            tokens[row, start:end] = torch.tensor(response)
            positions[row, start:end] = torch.arange(prompt, prompt + len(response))
            segments[row, start:end] = number
            sources.append(row * width + prompt - 1)
            sources.extend(range(row * width + start, row * width + end - 1))
            targets.extend(response)
            start = end
    column = torch.arange(width)
    causal = column[None, :] <= column[:, None]
    same = segments[:, :, None] == segments[:, None, :]
    visible = causal & (same | ((segments == 0)[:, None, :] & (segments > 0)[:, :, None]))
    return PackedRows(tokens, positions, visible[:, None], torch.tensor(sources), torch.tensor(targets))


def response_logprobs(model: Any, rows: PackedRows, temperature: float) -> Tensor:
    """Float32 [n]: log-probability of each target under ``softmax(logits / temperature)``.

    The output matrix is applied to the predicting positions only.
    """
    output = model.base_model(
        input_ids=rows.tokens, attention_mask=rows.visible, position_ids=rows.positions, use_cache=False
    )
    hidden = output.last_hidden_state.flatten(0, 1).index_select(0, rows.sources)
    logits = model.get_output_embeddings()(hidden).float()
    if temperature != 1.0:
        logits = logits / temperature
    return -F.cross_entropy(logits, rows.targets, reduction="none")
