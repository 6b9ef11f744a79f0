"""The key/value cache of one layer's attention where several rows continue the same prompt.

The prompt's keys and values are kept once per prompt, what rows have sampled once per row. One step of
attention reads both and joins them in one softmax. Decoding on a CPU waits for memory, and with eight samples
a prompt this reads about a quarter of what a cache of whole rows would. Rows of one prompt lie next to
each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RowGroups:
    """Which rows share a prompt, padded to a rectangle. ``sizes``: rows of each prompt, each at least 1.

    ``rows`` [prompts * widest] int64: the row of each place (any row where there is none), ``places`` [rows]:
    the place of each row; both None while every prompt has equally many rows.
    """

    prompts: int
    widest: int
    rows: Tensor | None
    places: Tensor | None

    @classmethod
    def of(cls, sizes: Tensor) -> RowGroups:
        """Groups for prompts with ``sizes`` [prompts] int64 rows each, none 0."""
        prompts, widest = len(sizes), int(sizes.max())
        if bool((sizes == widest).all()):
            return cls(prompts, widest, None, None)
        column = torch.arange(widest)
        filled = column[None, :] < sizes[:, None]
        rows = torch.zeros(prompts * widest, dtype=torch.long)
        places = filled.flatten().nonzero().squeeze(-1)
        rows[places] = torch.arange(len(places))
        return cls(prompts, widest, rows, places)

    def gather(self, states: Tensor) -> Tensor:
        """[rows, …] as [prompts, widest, …]."""
        if self.rows is not None:
            states = states.index_select(0, self.rows)
        return states.view(self.prompts, self.widest, *states.shape[1:])

    def scatter(self, states: Tensor) -> Tensor:
        """[prompts, widest, …] back as [rows, …]."""
        flat = states.reshape(self.prompts * self.widest, *states.shape[2:])
        return flat if self.places is None else flat.index_select(0, self.places)


class PrefixCache:
    """One layer: a prompt's keys and values [prompts, kv heads, length, size], and those that rows sampled
    [rows, kv heads, room, size]."""

    def __init__(self, keys: Tensor, values: Tensor, rows: int, room: int) -> None:
        self.prompt_keys, self.prompt_values = keys, values
        shape = (rows, keys.shape[1], room, keys.shape[3])
        self.keys, self.values = keys.new_empty(shape), keys.new_empty(shape)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, done: int, mask: Tensor, groups: RowGroups
    ) -> Tensor:
        """Attention of one new token a row: [rows, heads, size].

        ``query`` [rows, heads, size]; ``key``, ``value`` [rows, kv heads, size] of the new token, which is
        sampled token number `done`; ``mask`` [prompts, 1, 1, length], added to scores of the prompt.
        """
        self.keys[:, :, done], self.values[:, :, done] = key, value
        rows, heads, size = query.shape
        kv_heads = key.shape[1]
        query = (query * size**-0.5).view(rows, kv_heads, heads // kv_heads, size)
        own = torch.matmul(query, self.keys[:, :, : done + 1].transpose(-1, -2))
        # [prompts, kv heads, widest * heads per kv head, size]: one matrix product a prompt and kv head.
        gathered = groups.gather(query).transpose(1, 2).flatten(2, 3)
        shared = torch.matmul(gathered, self.prompt_keys.transpose(-1, -2)) + mask
        unfold = (groups.prompts, kv_heads, groups.widest, heads // kv_heads)
        shared_peak = groups.scatter(shared.amax(-1).view(unfold).transpose(1, 2))
        peak = torch.maximum(own.amax(-1), shared_peak)
        own = torch.exp(own - peak[..., None])
        shared = torch.exp(shared - groups.gather(peak).transpose(1, 2).flatten(2, 3)[..., None])
        mixed = torch.matmul(shared, self.prompt_values)
        total = groups.scatter(shared.sum(-1).view(unfold).transpose(1, 2)) + own.sum(-1)
        mixed = groups.scatter(mixed.view(*unfold, size).transpose(1, 2))
        mixed = mixed + torch.matmul(own, self.values[:, :, : done + 1])
        return (mixed / total[..., None]).flatten(1, 2)

    def keep(self, rows: Tensor, prompts: Tensor | None) -> None:
        """Go on with ``rows`` only, and where given with ``prompts`` only (int64 indices)."""
        self.keys, self.values = self.keys[rows], self.values[rows]
        if prompts is not None:
            self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]
