"""A document, and the one Parquet schema of all corpora.

Files are written in a fixed order with fixed row groups, so that the same documents are the same bytes (for
one version of pyarrow, which is part of the fingerprints).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codellm_dag.corpora.errors import CorpusError

DOCUMENTS = "documents.parquet"
REJECTED = "rejected.parquet"

SCHEMA = pa.schema(
    [
        pa.field("document_id", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)
"""Columns of every corpus file: document_id is the SHA-256 (hex) of the text's UTF-8 bytes, path is relative
to the source, licence is an SPDX expression ('' when unknown), bytes is the UTF-8 length of the text."""

REJECTED_SCHEMA = pa.schema(
    [*SCHEMA, *(pa.field(name, pa.string(), nullable=False) for name in ("step", "reason", "detail"))]
)
"""`SCHEMA` and why the document went: the step, a reason (one of few), and what exactly was found."""

_ROWS_PER_GROUP = 1000
_BYTES_PER_GROUP = 8_000_000


@dataclass(frozen=True)
class Document:
    """One file of source code; the fields are the columns of `SCHEMA`."""

    document_id: str
    text: str
    language: str
    path: str
    source: str
    licence: str
    bytes: int

    @classmethod
    def of(cls, text: str, *, language: str, path: str, source: str, licence: str) -> Document:
        """A document with the id and the size that follow from its text."""
        data = text.encode()
        return cls(hashlib.sha256(data).hexdigest(), text, language, path, source, licence, len(data))

    def with_text(self, text: str) -> Document:
        """The same document with another text (what a step that redacts hands on)."""
        data = text.encode()
        return replace(self, text=text, document_id=hashlib.sha256(data).hexdigest(), bytes=len(data))

    def row(self, **more: str) -> dict[str, Any]:
        """The document as a row, with further columns."""
        return {**asdict(self), **more}


class DocumentWriter:
    """Writes rows to a Parquet file in row groups of at most 1,000 rows or about 8 MB of text.

    Memory: one row group. Use as a context manager; the file exists, if empty, after it.
    """

    def __init__(self, path: Path, schema: pa.Schema = SCHEMA) -> None:
        self._schema = schema
        self._rows: list[Mapping[str, Any]] = []
        self._bytes = 0
        # pyarrow's annotations know only a bool here; the manual allows names of columns.
        columns: Any = ["language", "source", "licence"]
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=columns)

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row that has the columns of the schema."""
        self._rows.append(row)
        self._bytes += row["bytes"]
        if len(self._rows) >= _ROWS_PER_GROUP or self._bytes >= _BYTES_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
            self._writer.write_table(table, row_group_size=_ROWS_PER_GROUP)
        self._rows, self._bytes = [], 0

    def __enter__(self) -> DocumentWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()


def open_documents(path: Path) -> pq.ParquetFile:
    """Open a corpus file after checking that it is there and has the columns of `SCHEMA`.

    Raises CorpusError that names the file and the column that is missing.
    """
    if not path.is_file():
        raise CorpusError(f"{path}: there is no such file; a corpus artifact holds {path.name}")
    file = pq.ParquetFile(path)
    missing = [name for name in SCHEMA.names if name not in file.schema_arrow.names]
    if missing:
        raise CorpusError(f"{path}: no column {', '.join(missing)}; a corpus has {', '.join(SCHEMA.names)}")
    return file


def iter_documents(file: pq.ParquetFile, rows: int = 256) -> Iterator[Document]:
    """The documents in the file's order. Memory: one row group and ``rows`` documents."""
    for batch in file.iter_batches(batch_size=rows, columns=SCHEMA.names):
        for row in batch.to_pylist():
            yield Document(**row)


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write documents to a corpus file, in the order given."""
    with DocumentWriter(path) as writer:
        for document in documents:
            writer.write(document.row())
