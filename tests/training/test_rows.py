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
    ReplayRows,
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


def test_replayed_rows_are_a_share_of_the_run(tmp_path: Path) -> None:
    new = ExampleRows([Example([10 + n] * 6, [True] * 6) for n in range(3)], 6, pad=0)
    rows = ReplayRows(new, ShardRows([shard(tmp_path / "a")]), replay=0.3, total=10, seed=5)
    assert (len(rows), rows.replayed) == (10, 3)
    first = [int(rows.row(number).tokens[0]) for number in range(10)]
    # 7 rows of the 3 new ones epoch by epoch, then 3 of the 2 pretraining rows: both, and one again
    assert first[:7] == [*first[:3]] * 2 + first[:1]
    assert set(first[:3]) == {10, 11, 12}
    assert set(first[7:9]) == {5, 1}
    assert first[9] in (5, 1)
    assert len(ReplayRows(new, ShardRows([tmp_path / "a"]), replay=0.0, total=4, seed=5)) == 4


def test_replayed_rows_have_the_length_of_the_new_ones(tmp_path: Path) -> None:
    new = ExampleRows([Example([1, 2], [False, True])], 8, pad=0)
    with pytest.raises(
        InvalidTrainingDataError, match="sequence_length = 8, but the shards to replay have rows of 6 tokens"
    ):
        ReplayRows(new, ShardRows([shard(tmp_path / "a")]), replay=0.5, total=4, seed=0)
