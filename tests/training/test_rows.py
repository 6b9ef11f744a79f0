"""Rows, targets and their order, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codellm_dag.tokens.packing import Span
from codellm_dag.tokens.shards import write_shard
from codellm_dag.training.rows import (
    IGNORED,
    Example,
    ExampleRows,
    InvalidTrainingDataError,
    ShardRows,
    row_order,
)

X = IGNORED


def shard(folder: Path, length: int = 6, vocabulary: int = 100) -> Path:
    folder.mkdir()
    rows = [[Span(0, 0, 3), Span(1, 0, 2)], [Span(2, 0, 6)]]
    pieces = [[5, 6, 7], [8, 9], [1, 2, 3, 4, 5, 6][:length]]
    index = {"documents": 3, "language": "x", "sequence_length": length, "vocabulary_size": vocabulary}
    write_shard(folder, pieces, rows if length == 6 else [[Span(0, 0, 3)]], 0, index)
    return folder


def test_targets_are_the_next_token_of_the_same_piece(tmp_path: Path) -> None:
    rows = ShardRows([shard(tmp_path / "a")])
    tokens, positions, targets = rows.row(0)
    assert tokens.tolist() == [5, 6, 7, 8, 9, 0]
    assert positions.tolist() == [0, 1, 2, 0, 1, 2]
    # 7 ends its piece, 9 ends its piece before the padding, the padding is no target.
    assert targets.tolist() == [6, 7, X, 9, X, X]
    assert rows.row(1).targets.tolist() == [2, 3, 4, 5, 6, X]


def test_rows_of_several_shards_follow_each_other(tmp_path: Path) -> None:
    rows = ShardRows([shard(tmp_path / "a"), shard(tmp_path / "b")])
    assert len(rows) == 4
    assert rows.row(3).tokens.tolist() == rows.row(1).tokens.tolist() == [1, 2, 3, 4, 5, 6]


def test_shards_must_agree(tmp_path: Path) -> None:
    with pytest.raises(InvalidTrainingDataError, match=r"disagree on sequence_length: \[4, 6\]"):
        ShardRows([shard(tmp_path / "a"), shard(tmp_path / "b", length=4)])
    with pytest.raises(InvalidTrainingDataError, match=r"disagree on vocabulary_size: \[100, 101\]"):
        ShardRows([shard(tmp_path / "c"), shard(tmp_path / "d", vocabulary=101)])
    with pytest.raises(InvalidTrainingDataError, match="no row to train on"):
        ShardRows([])


def test_only_the_assistants_tokens_are_targets() -> None:
    user, answer = [1, 2, 3], [7, 8]
    example = Example(user + answer, [False] * 3 + [True] * 2)
    rows = ExampleRows([example, Example([4, 5], [False, True])], 8, pad=0)
    assert len(rows) == 1
    tokens, positions, targets = rows.row(0)
    assert tokens.tolist() == [1, 2, 3, 7, 8, 4, 5, 0]
    assert positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 0]
    assert targets.tolist() == [X, X, 7, 8, X, 5, X, X]
    assert rows.padding_share == pytest.approx(1 / 8)


def test_examples_longer_than_a_row_are_counted_and_left_out() -> None:
    short, long = Example([1, 2], [False, True]), Example([1] * 9, [True] * 9)
    assert ExampleRows([short, long], 8, pad=0).too_long == 1
    with pytest.raises(InvalidTrainingDataError, match="none of 1 examples fits into sequence_length = 8"):
        ExampleRows([long], 8, pad=0)


def test_order_is_whole_epochs_each_shuffled_anew() -> None:
    order = row_order(10, 25, seed=3)
    assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))
    assert order[:10].tolist() != order[10:20].tolist()
    assert np.array_equal(order, row_order(10, 25, seed=3))
    assert not np.array_equal(order, row_order(10, 25, seed=4))
    assert np.array_equal(row_order(10, 5, seed=3), order[:5])
