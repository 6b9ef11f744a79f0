"""Rows of a Hugging Face dataset, streamed: a pinned commit on the hub, or a local folder.

Only a hub id uses the network, and only when the stage runs. Column names are knobs, because every data set
of code names them differently. Not covered: data sets that hold pointers to files instead of their text,
scripts that build a data set, and choosing rows by hash (a stream is cut after ``take`` rows or
``max_bytes``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.sources.base import RawFile, content_digest, filled_in, verify_digest
from codellm_dag.corpora.sources.digests import file_digests
from codellm_dag.corpora.sources.local_dir import list_files
from codellm_dag.recipes.sources import SourceRecipe


class HfDataset:
    """The rows of one split; ``text_column`` holds the document."""

    def __init__(self, recipe: SourceRecipe) -> None:
        self._recipe = recipe
        self._where = recipe.dataset or recipe.path

    def resolved(self) -> SourceRecipe:
        """Fill in the name and, for a local folder, the digest of all its files.

        A data set on the hub is identified by its ``revision``. Raises CorpusError for a missing folder.
        """
        recipe = self._recipe
        if recipe.dataset:
            name = f"{recipe.dataset.replace('/', '.')}@{recipe.revision[:12]}"
            return filled_in(recipe, name=recipe.name or name)
        root = Path(recipe.path).expanduser().absolute()
        digest = _folder_digest(root)
        return filled_in(recipe, path=str(root), name=recipe.name or root.name, content_digest=digest)

    def read(self) -> Iterator[RawFile]:
        """The rows in the data set's order. Memory: what `datasets` buffers (one row group).

        Raises CorpusError when the data set, the split or a column is not there, or a folder has changed.
        """
        recipe = self._recipe
        if recipe.path:
            verify_digest(_folder_digest(Path(recipe.path)), recipe, recipe.path)
        taken = 0
        for index, row in enumerate(self._rows()):
            if recipe.take and index >= recipe.take:
                return
            file = self._file(index, row)
            taken += len(file.content)
            if recipe.max_bytes and taken > recipe.max_bytes:
                return
            yield file

    def _rows(self) -> Iterable[Mapping[str, Any]]:
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
        from datasets import load_dataset

        recipe = self._recipe
        try:
            stream = load_dataset(
                self._where,
                data_dir=recipe.data_dir or None,
                split=recipe.split,
                revision=recipe.revision or None,
                streaming=True,
            )
            yield from stream
        except CorpusError:
            raise
        except Exception as error:  # `datasets` raises dozens of kinds, by file format and transport
            raise CorpusError(
                f"data set {self._where!r}, split {recipe.split!r}: cannot be read "
                f"({type(error).__name__}: {error})"
            ) from error

    def _file(self, index: int, row: Mapping[str, Any]) -> RawFile:
        recipe = self._recipe
        for field in ("text_column", "path_column", "licence_column"):
            column = getattr(recipe, field)
            if column and column not in row:
                raise CorpusError(
                    f"data set {self._where!r} has no column {column!r} ({field}); it has "
                    f"{', '.join(sorted(row))}"
                )
        text = row[recipe.text_column]
        content = text if isinstance(text, bytes) else str(text if text is not None else "").encode()
        path = str(row[recipe.path_column]) if recipe.path_column else f"row-{index:09d}"
        return RawFile(path, content, self._licence(row))

    def _licence(self, row: Mapping[str, Any]) -> str:
        found = row[self._recipe.licence_column] if self._recipe.licence_column else None
        if isinstance(found, (list, tuple)):
            found = " AND ".join(f"({entry})" if " " in str(entry) else str(entry) for entry in found)
        return str(found) if found else self._recipe.licence


def _folder_digest(root: Path) -> str:
    if not root.is_dir():
        raise CorpusError(f"source path {root}: there is no such folder; give an existing one")
    return content_digest(file_digests(root, list(list_files(root))))
