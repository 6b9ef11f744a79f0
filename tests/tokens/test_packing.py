"""Packing: layouts worked out by hand, and what holds for any lengths."""

from __future__ import annotations

import random

import pytest

from codellm_dag.tokens.packing import Span, pack_best_fit, pack_sequential


def test_sequential_cuts_at_row_ends() -> None:
    # 3 + 4 tokens in rows of 5: the second piece is cut after 2 tokens.
    assert pack_sequential([3, 4], 5) == [[Span(0, 0, 3), Span(1, 0, 2)], [Span(1, 2, 4)]]


def test_sequential_piece_over_several_rows() -> None:
    assert pack_sequential([7], 3) == [[Span(0, 0, 3)], [Span(0, 3, 6)], [Span(0, 6, 7)]]


def test_best_fit_by_hand() -> None:
    # Longest first: 7 opens row 0 (3 left), 6 opens row 1 (4 left), 4 fills row 1 (it fits there exactly and
    # not into row 0), 3 fills row 0, 2 opens row 2.
    rows = pack_best_fit([2, 7, 3, 6, 4], 10)
    assert rows == [[Span(1, 0, 7), Span(2, 0, 3)], [Span(3, 0, 6), Span(4, 0, 4)], [Span(0, 0, 2)]]


def test_best_fit_prefers_the_fullest_row_that_fits() -> None:
    # 8 leaves 2, 5 leaves 5; a 2 fits both and goes where 2 are left.
    assert pack_best_fit([8, 5, 2], 10)[0] == [Span(0, 0, 8), Span(2, 0, 2)]


def test_best_fit_leaves_out_empty_pieces_and_refuses_long_ones() -> None:
    assert pack_best_fit([0, 1], 4) == [[Span(1, 0, 1)]]
    with pytest.raises(ValueError, match="piece 1 has 5 tokens, more than a row's 4"):
        pack_best_fit([1, 5], 4)


@pytest.mark.parametrize("seed", range(5))
def test_every_token_is_placed_once(seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.randint(0, 64) for _ in range(300)]
    for rows in (pack_best_fit(lengths, 64), pack_sequential(lengths, 64)):
        placed = sorted((span.piece, span.start, span.stop) for row in rows for span in row)
        covered = [0] * len(lengths)
        for piece, start, stop in placed:
            assert start == covered[piece]
            covered[piece] = stop
        assert covered == lengths
        assert all(sum(span.stop - span.start for span in row) <= 64 for row in rows)
    assert all(
        span.start == 0 and span.stop == lengths[span.piece]
        for row in pack_best_fit(lengths, 64)
        for span in row
    )
    # Best-fit decreasing needs at most 11/9 of the optimum and one row (Johnson 1973).
    assert len(pack_best_fit(lengths, 64)) <= 11 / 9 * -(-sum(lengths) // 64) + 1
