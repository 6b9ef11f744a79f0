"""The leaves of a lineage: the source files a corpus was read from, and what became of each.

Reads the ``documents.parquet`` of the ``raw_corpus`` artifacts below a score and follows every file by its
source and path through ``clean_corpus`` and ``mixture``: trained on, held out, removed by a step, or left
out. Reading Parquet is the only thing here that costs time; it happens when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codellm_dag.lineage.errors import LineageError
from codellm_dag.lineage.graph import Node, nodes
from codellm_dag.lineage.names import place
from codellm_dag.store import Store

_KEY = ("language", "source", "path")


@dataclass(frozen=True)
class SourceSummary:
    """The documents that one source gave to one raw corpus."""

    language: str
    source: str
    licence: str
    documents: int
    bytes: int


@dataclass(frozen=True)
class SourceFile:
    """One file of a raw corpus. `fate`: train, heldout, ``removed: <step> (<reason>)``, or not used."""

    language: str
    source: str
    path: str
    licence: str
    bytes: int
    sha256: str
    fate: str


@dataclass(frozen=True)
class FileChanges:
    """How the files of a raw corpus differ between two lineages, as ``source: path``."""

    corpus: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


def compare_files(store: Store, a: Node, other_store: Store, b: Node) -> FileChanges:
    """What files two ``raw_corpus`` nodes do not share, and which have another text."""
    columns = (*_KEY, "document_id")
    before = {_key(row): row["document_id"] for row in _rows(store, a, "documents.parquet", columns)}
    after = {_key(row): row["document_id"] for row in _rows(other_store, b, "documents.parquet", columns)}
    both = before.keys() & after.keys()
    return FileChanges(
        b.label,
        added=_named(after.keys() - both),
        removed=_named(before.keys() - both),
        changed=_named(key for key in both if before[key] != after[key]),
    )


def _named(keys: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted(f"{source}: {path}" for _, source, path in keys))


def summarise(store: Store, corpus: Node) -> list[SourceSummary]:
    """Documents and bytes by source and licence, largest first, of one ``raw_corpus`` node."""
    sums: dict[tuple[str, str, str], list[int]] = {}
    for row in _rows(store, corpus, "documents.parquet", ("language", "source", "licence", "bytes")):
        entry = sums.setdefault((row["language"], row["source"], row["licence"]), [0, 0])
        entry[0] += 1
        entry[1] += row["bytes"]
    found = [SourceSummary(*key, documents=count, bytes=size) for key, (count, size) in sums.items()]
    return sorted(found, key=lambda summary: (-summary.bytes, summary.source, summary.licence))


def raw_corpora(root: Node) -> list[Node]:
    """The ``raw_corpus`` nodes below `root`, by partition."""
    found = [node for node in nodes(root) if node.artifact.stage == "raw_corpus"]
    return sorted(found, key=lambda node: node.label)


def list_files(store: Store, root: Node, grep: str = "") -> list[SourceFile]:
    """Every source file below `root` whose path matches the regular expression `grep`, by language and path.

    Raises LineageError if `grep` is not a regular expression or a corpus is not in the store any more.
    """
    try:
        pattern = re.compile(grep)
    except re.error as error:
        raise LineageError(f"--grep {grep!r} is not a regular expression: {error}") from error
    fates = _fates(store, root)
    columns = (*_KEY, "licence", "bytes", "document_id")
    files = [
        SourceFile(
            language=row["language"],
            source=row["source"],
            path=row["path"],
            licence=row["licence"],
            bytes=row["bytes"],
            sha256=row["document_id"],
            fate=fates.get(_key(row), "not used"),
        )
        for corpus in raw_corpora(root)
        for row in _rows(store, corpus, "documents.parquet", columns)
        if pattern.search(row["path"])
    ]
    return sorted(files, key=lambda file: (file.language, file.source, file.path))


def _fates(store: Store, root: Node) -> dict[tuple[str, ...], str]:
    """What became of each file; the later stage has the last word."""
    fates: dict[tuple[str, ...], str] = {}
    for node in nodes(root):
        if node.artifact.stage == "clean_corpus":
            for row in _rows(store, node, "rejected.parquet", (*_KEY, "step", "reason")):
                fates[_key(row)] = f"removed: {row['step']} ({row['reason']})"
        elif node.artifact.stage == "mixture":
            for split in ("train", "heldout"):
                for row in _rows(store, node, f"{split}.parquet", _KEY):
                    fates[_key(row)] = split
    return fates


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[column]) for column in _KEY)


def _rows(store: Store, node: Node, file: str, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if node.manifest is None:
        raise LineageError(f"{node.label} is no longer in {place(store)}, so its files cannot be listed")
    path = store.local_path(node.artifact) / file
    if not Path(path).is_file():
        return
    try:
        table = pq.read_table(path, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise LineageError(
            f"{file} of {node.label} cannot be read: {error}; try `codellm-dag verify`"
        ) from error
    yield from table.to_pylist()
