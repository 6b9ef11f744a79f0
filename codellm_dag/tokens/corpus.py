"""Reading the documents of a mixture in a fixed order, with bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

TRAIN_FILE = "train.parquet"


class InvalidCorpusError(ValueError):
    """A corpus folder lacks its file or a column; the message names both."""


@dataclass(frozen=True)
class Document:
    """One file of the corpus. ``document_id`` is the SHA-256 of its text, in hex."""

    document_id: str
    text: str
    language: str


def read_documents(folder: Path, language: str = "") -> Iterator[Document]:
    """The training documents in `folder`, of one `language` or all, in file order.

    Raises InvalidCorpusError when the file or a column is missing.
    """
    path = folder / TRAIN_FILE
    if not path.is_file():
        raise InvalidCorpusError(f"{path} does not exist; a mixture holds {TRAIN_FILE}")
    file = pq.ParquetFile(path)
    missing = {"document_id", "text", "language"} - set(file.schema_arrow.names)
    if missing:
        raise InvalidCorpusError(f"{path} has no column {', '.join(sorted(missing))}")
    for batch in file.iter_batches(1024, columns=["document_id", "text", "language"]):
        for row in batch.to_pylist():
            if not language or row["language"] == language:
                yield Document(row["document_id"], row["text"], row["language"])


def languages(folder: Path) -> list[str]:
    """The languages of the training documents in `folder`, sorted."""
    path = folder / TRAIN_FILE
    if not path.is_file():
        raise InvalidCorpusError(f"{path} does not exist; a mixture holds {TRAIN_FILE}")
    return sorted(set(pq.read_table(path, columns=["language"])["language"].to_pylist()))
