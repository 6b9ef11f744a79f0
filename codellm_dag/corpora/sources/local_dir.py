"""Files below a local folder.

Hidden folders, ``__pycache__`` and symbolic links are left out. Not covered: reading a licence out of the
folder; the recipe states it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.globs import matcher
from codellm_dag.corpora.sources.base import RawFile, choose_files, content_digest, filled_in, verify_digest
from codellm_dag.corpora.sources.digests import file_digests
from codellm_dag.recipes.sources import SourceRecipe


class LocalDir:
    """The files of ``recipe.path`` that the globs choose."""

    def __init__(self, recipe: SourceRecipe) -> None:
        self._recipe = recipe
        self._root = Path(recipe.path).expanduser().absolute()

    def resolved(self) -> SourceRecipe:
        """Fill in the absolute path, the name and the digest of the chosen files.

        Raises CorpusError when the folder is missing or unreadable, or no file is chosen.
        """
        digest = content_digest(file_digests(self._root, self._paths()))
        name = self._recipe.name or "".join(
            c if c.isalnum() or c in "_.@+-" else "_" for c in self._root.name
        )
        return filled_in(self._recipe, path=str(self._root), name=name or "local", content_digest=digest)

    def read(self) -> Iterator[RawFile]:
        """The chosen files. Memory: one file. Raises CorpusError at the end when they have changed."""
        yield from read_folder(self._root, self._paths(), self._recipe)

    def _paths(self) -> list[str]:
        if not self._root.is_dir():
            raise CorpusError(f"source path {self._root}: there is no such folder; give an existing one")
        return choose_files(list_files(self._root, self._recipe.exclude), self._recipe, str(self._root))


def list_files(root: Path, exclude: Sequence[str] = ()) -> dict[str, int]:
    """Relative paths ('/'-separated) and sizes of the regular files below ``root``, sorted.

    Folders that a glob ``…/**`` of ``exclude`` covers are not entered (a standard library may have a gigabyte
    of installed packages in it). Raises CorpusError for a folder that cannot be listed.
    """
    covered = matcher(pattern for pattern in exclude if pattern.endswith("/**"))
    found: dict[str, int] = {}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    path = f"{folder}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        hidden = entry.name.startswith(".") or entry.name == "__pycache__"
                        if not hidden and not covered(f"{path}/"):
                            waiting.append(f"{path}/")
                    elif entry.is_file(follow_symlinks=False):
                        found[path] = entry.stat().st_size
        except OSError as error:
            raise CorpusError(
                f"{root / folder}: cannot be listed ({error.strerror}); mend or exclude it"
            ) from error
    return dict(sorted(found.items()))


def read_folder(root: Path, paths: list[str], recipe: SourceRecipe) -> Iterator[RawFile]:
    """Yield the files, and check at the end that they were those that the recipe was resolved for."""
    digests: list[tuple[str, str]] = []
    for path in paths:
        try:
            content = (root / path).read_bytes()
        except OSError as error:
            raise CorpusError(
                f"{root / path}: cannot be read ({error.strerror}); mend or exclude it"
            ) from error
        digests.append((path, hashlib.sha256(content).hexdigest()))
        yield RawFile(path, content, recipe.licence)
    verify_digest(content_digest(digests), recipe, str(root))
