"""Laying pieces of documents into rows of equal length.

``best_fit``: pieces in decreasing length, each into the fullest row it still fits in (best-fit decreasing,
Ding et al. 2024, arXiv:2404.10830): no piece is cut, a little space at row ends is left over. ``sequential``:
one after the other, cut at row ends: nothing is left over but in the last row. Both are deterministic; ties
go to the earlier piece and the earlier row. Attention between pieces is the trainer's business, which gets
each piece's start.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """Tokens ``start`` to ``stop`` of piece number ``piece``."""

    piece: int
    start: int
    stop: int


Row = list[Span]


def pack_sequential(lengths: Sequence[int], capacity: int) -> list[Row]:
    """Rows of `capacity` tokens filled one after the other; pieces are cut at row ends."""
    rows: list[Row] = []
    free = 0
    for piece, length in enumerate(lengths):
        start = 0
        while start < length:
            if not free:
                rows.append([])
                free = capacity
            taken = min(free, length - start)
            rows[-1].append(Span(piece, start, start + taken))
            start, free = start + taken, free - taken
    return rows


def pack_best_fit(lengths: Sequence[int], capacity: int) -> list[Row]:
    """Rows of at most `capacity` tokens; no piece is cut.

    Raises ValueError for a piece longer than `capacity`. O(n log capacity): open rows are kept by free space.
    """
    rows: list[Row] = []
    free_sizes: list[int] = []  # sorted, the free space for which some row is open
    open_rows: dict[int, list[int]] = {}  # free space -> rows, latest last
    for piece in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        length = lengths[piece]
        if length > capacity:
            raise ValueError(f"piece {piece} has {length} tokens, more than a row's {capacity}")
        if not length:
            continue
        position = bisect_left(free_sizes, length)
        if position < len(free_sizes):
            free = free_sizes[position]
            row = open_rows[free].pop(0)
            if not open_rows[free]:
                del open_rows[free]
                del free_sizes[position]
        else:
            free, row = capacity, len(rows)
            rows.append([])
        rows[row].append(Span(piece, 0, length))
        if left := free - length:
            if left not in open_rows:
                insort(free_sizes, left)
                open_rows[left] = []
            open_rows[left].append(row)
    return rows


def pack(lengths: Sequence[int], capacity: int, algorithm: str) -> list[Row]:
    """Rows by the named algorithm (``best_fit`` or ``sequential``)."""
    return {"best_fit": pack_best_fit, "sequential": pack_sequential}[algorithm](lengths, capacity)
