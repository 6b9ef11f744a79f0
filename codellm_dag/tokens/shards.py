"""The files of an artifact of kind ``shards``: rows of tokens that can be memory-mapped.

- ``tokens.bin``: token ids, row after row, `sequence_length` each; little-endian uint16 (uint32 where the
  vocabulary has more than 65,536 entries).
- ``documents.bin``: little-endian int64 offsets into tokens.bin at which a piece of a document starts,
  rising, then the number of tokens. A piece never crosses a row's end.
- ``used.bin``: little-endian int32, tokens used in each row; the rest of the row is padding.
- ``index.json``: dtype, sequence_length, tokens, rows, documents (read), pieces, padding, vocabulary_size,
  language.

Row `i` is the slice ``[i * sequence_length, (i + 1) * sequence_length)``. Attention must not cross pieces;
`Shard.row` gives the positions that say where they start.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codellm_dag.tokens.packing import Row

TOKENS_FILE, DOCUMENTS_FILE, USED_FILE, INDEX_FILE = "tokens.bin", "documents.bin", "used.bin", "index.json"


class InvalidShardError(ValueError):
    """A shard folder lacks a file or its files disagree; the message names the file and what is wrong."""


class PackedRow(NamedTuple):
    """One row. ``tokens`` and ``positions``: int64 [sequence_length]; positions count from 0 in each piece.
    ``used``: tokens before the padding (padding continues the last piece's positions).
    """

    tokens: np.ndarray
    positions: np.ndarray
    used: int


def write_shard(
    folder: Path, pieces: Sequence[Sequence[int]], rows: Sequence[Row], pad: int, index: dict[str, Any]
) -> dict[str, Any]:
    """Write the files for `rows` of `pieces`; `index` gives sequence_length, vocabulary_size, language,
    documents. Returns the whole index.
    """
    length = index["sequence_length"]
    dtype = "uint16" if index["vocabulary_size"] <= 1 << 16 else "uint32"
    tokens = np.full((len(rows), length), pad, dtype=np.dtype(dtype).newbyteorder("<"))
    starts: list[int] = []
    used = np.zeros(len(rows), dtype="<i4")
    for number, row in enumerate(rows):
        position = 0
        for span in row:
            starts.append(number * length + position)
            end = position + span.stop - span.start
            tokens[number, position:end] = pieces[span.piece][span.start : span.stop]
            position = end
        used[number] = position
    (folder / TOKENS_FILE).write_bytes(tokens.tobytes())
    (folder / DOCUMENTS_FILE).write_bytes(np.asarray([*starts, tokens.size], dtype="<i8").tobytes())
    (folder / USED_FILE).write_bytes(used.tobytes())
    whole = {
        **index,
        "dtype": dtype,
        "padding": int(tokens.size - used.sum()),
        "pieces": len(starts),
        "rows": len(rows),
        "tokens": int(used.sum()),
    }
    text = json.dumps(whole, indent=1, sort_keys=True) + "\n"
    (folder / INDEX_FILE).write_text(text, encoding="utf-8")
    return whole


class Shard:
    """A shard folder, memory-mapped. ``len(shard)`` is its rows.

    Raises InvalidShardError when a file is missing or has not the size that index.json says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = _read_index(folder)
        self.sequence_length: int = self.index["sequence_length"]
        rows, dtype = self.index["rows"], np.dtype(self.index["dtype"]).newbyteorder("<")
        self._tokens = _open(folder / TOKENS_FILE, dtype, rows * self.sequence_length)
        self._starts = _open(folder / DOCUMENTS_FILE, np.dtype("<i8"), self.index["pieces"] + 1)
        self._used = _open(folder / USED_FILE, np.dtype("<i4"), rows)

    def __len__(self) -> int:
        return self.index["rows"]

    def row(self, number: int) -> PackedRow:
        """Row `number`, copied out of the mapping."""
        begin = number * self.sequence_length
        end = begin + self.sequence_length
        first, last = np.searchsorted(self._starts, [begin, end])
        offsets = np.asarray(self._starts[first:last]) - begin
        column = np.arange(self.sequence_length)
        positions = column - offsets[np.searchsorted(offsets, column, side="right") - 1]
        tokens = np.asarray(self._tokens[begin:end]).astype(np.int64)
        return PackedRow(tokens, positions, int(self._used[number]))


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX_FILE
    if not path.is_file():
        raise InvalidShardError(f"{path} does not exist; an artifact of kind 'shards' holds it")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidShardError(f"{path} is not JSON: {error}") from error
    needed = {"dtype", "sequence_length", "rows", "pieces", "vocabulary_size"}
    if not isinstance(index, dict) or not needed <= set(index):
        raise InvalidShardError(f"{path} lacks one of {', '.join(sorted(needed))}")
    return index


def _open(path: Path, dtype: np.dtype, count: int) -> np.ndarray:
    size = path.stat().st_size if path.is_file() else -1
    if size != count * dtype.itemsize:
        have = "is missing" if size < 0 else f"has {size} bytes"
        raise InvalidShardError(f"{path} {have}; index.json says {count * dtype.itemsize} bytes")
    return np.memmap(path, dtype=dtype, mode="r", shape=(count,)) if count else np.zeros(0, dtype)
