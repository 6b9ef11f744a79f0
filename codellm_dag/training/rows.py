"""What training reads: rows of packed tokens with their targets, and the order in which they are read.

A source of rows has a length and gives row `i` as arrays; `ShardRows` reads shards of several languages,
`ExampleRows` holds chat examples in memory, `ReplayRows` mixes the two. Targets are already moved by one:
``targets[t]`` is the token that follows ``tokens[t]``, or IGNORED where nothing is learnt (padding, a piece's
end, a user's words).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from codellm_dag.tokens.packing import pack_best_fit
from codellm_dag.tokens.shards import Shard

IGNORED = -100
"""Target of a position that has no loss (the value PyTorch's cross entropy ignores)."""


class TrainingRow(NamedTuple):
    """int64 arrays [sequence_length]; ``positions`` count from 0 in each piece of the row."""

    tokens: np.ndarray
    positions: np.ndarray
    targets: np.ndarray


class Rows(Protocol):
    """A source of rows of one length."""

    sequence_length: int

    def __len__(self) -> int: ...

    def row(self, number: int) -> TrainingRow:
        """Row `number`, from 0."""
        ...


class InvalidTrainingDataError(ValueError):
    """Training data does not fit the model or itself; the message names the artifact and what to change."""


class ShardRows:
    """The rows of all shards one after the other, in the order of their names.

    Raises InvalidTrainingDataError for no rows, or shards of different row lengths or vocabularies.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.shards = [Shard(folder) for folder in folders]
        for name in ("sequence_length", "vocabulary_size"):
            values = sorted({shard.index[name] for shard in self.shards})
            if len(values) > 1:
                raise InvalidTrainingDataError(
                    f"the shards disagree on {name}: {values}; make all of them with one recipe"
                )
        self._ends = list(accumulate(len(shard) for shard in self.shards))
        if not self._ends or not self._ends[-1]:
            raise InvalidTrainingDataError("the shards hold no row to train on")
        self.sequence_length: int = self.shards[0].sequence_length
        self.vocabulary_size: int = self.shards[0].index["vocabulary_size"]

    def __len__(self) -> int:
        return self._ends[-1]

    def row(self, number: int) -> TrainingRow:
        """Row `number`; every token of a piece but its first is a target."""
        which = bisect_right(self._ends, number)
        shard = self.shards[which]
        tokens, positions, used = shard.row(number - (self._ends[which] - len(shard)))
        follows = np.append(positions[1:] > 0, False) & (np.arange(len(tokens)) < used - 1)
        targets = np.where(follows, np.append(tokens[1:], 0), IGNORED)
        return TrainingRow(tokens, positions, targets)


class Example(NamedTuple):
    """A tokenized conversation; ``learnt[t]`` says whether token t is to be predicted (the assistant's)."""

    tokens: list[int]
    learnt: list[bool]


class ExampleRows:
    """Examples packed whole into rows (best fit). Examples longer than a row are left out and counted.

    Raises InvalidTrainingDataError when no example is left.
    """

    def __init__(self, examples: Sequence[Example], sequence_length: int, pad: int) -> None:
        self.sequence_length = sequence_length
        self.examples = [example for example in examples if len(example.tokens) <= sequence_length]
        self.too_long = len(examples) - len(self.examples)
        if not self.examples:
            raise InvalidTrainingDataError(
                f"none of {len(examples)} examples fits into sequence_length = {sequence_length} tokens"
            )
        self._pad = pad
        self._rows = pack_best_fit([len(example.tokens) for example in self.examples], sequence_length)

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> TrainingRow:
        """Row `number`; the padding at its end is a piece of its own."""
        tokens = np.full(self.sequence_length, self._pad, dtype=np.int64)
        positions = np.zeros(self.sequence_length, dtype=np.int64)
        targets = np.full(self.sequence_length, IGNORED, dtype=np.int64)
        start = 0
        for span in self._rows[number]:
            example = self.examples[span.piece]
            end = start + len(example.tokens)
            tokens[start:end] = example.tokens
            positions[start:end] = np.arange(end - start)
            targets[start : end - 1] = np.where(example.learnt[1:], example.tokens[1:], IGNORED)
            start = end
        positions[start:] = np.arange(self.sequence_length - start)
        return TrainingRow(tokens, positions, targets)

    @property
    def padding_share(self) -> float:
        """Share of all positions that hold no token of an example."""
        return 1.0 - sum(len(example.tokens) for example in self.examples) / (
            len(self) * self.sequence_length
        )


class ReplayRows:
    """The `total` rows of a run in which rows of pretraining are repeated among new ones, against forgetting.

    The share `replay` (0 to below 1) of them is drawn from `pretraining` by `seed`, without repetition until
    all were drawn; the others are `rows`, epoch after epoch. Raises InvalidTrainingDataError where the two
    differ in the length of a row.
    """

    def __init__(self, rows: Rows, pretraining: Rows, replay: float, total: int, seed: int) -> None:
        if rows.sequence_length != pretraining.sequence_length:
            raise InvalidTrainingDataError(
                f"sequence_length = {rows.sequence_length}, but the shards to replay have rows of "
                f"{pretraining.sequence_length} tokens; make them equal, or set replay to 0"
            )
        self.sequence_length = rows.sequence_length
        self.replayed = round(total * replay)
        self._rows, self._pretraining, self._own = rows, pretraining, total - self.replayed
        self._chosen = row_order(len(pretraining), self.replayed, seed)

    def __len__(self) -> int:
        return self._own + self.replayed

    def row(self, number: int) -> TrainingRow:
        """Row `number`; the new ones come first, `row_order` mixes them."""
        if number < self._own:
            return self._rows.row(number % len(self._rows))
        return self._pretraining.row(int(self._chosen[number - self._own]))


def row_order(count: int, total: int, seed: int) -> np.ndarray:
    """Numbers of the `total` rows to read, int64: epoch after epoch, each a permutation of `count` rows.

    Depends on nothing but its arguments, so a resumed run reads on where it stopped.
    """
    epochs = [
        np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)
        for epoch in range(-(-total // count))
    ]
    return np.concatenate([np.empty(0, np.int64), *epochs])[:total].astype(np.int64)
