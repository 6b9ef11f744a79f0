"""The standard library of the running interpreter: real Python on every machine, without a network.

A distribution may have patched it; version and digest in the resolved recipe say what was read. Not covered:
an interpreter that keeps its library in a zip file.
"""

from __future__ import annotations

import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from codellm_dag.corpora.errors import MissingSource
from codellm_dag.corpora.sources.base import RawFile, choose_files, content_digest, filled_in
from codellm_dag.corpora.sources.digests import file_digests
from codellm_dag.corpora.sources.local_dir import list_files, read_folder
from codellm_dag.recipes.sources import SourceRecipe

LICENCE = "PSF-2.0"


class PythonStdlib:
    """The library's ``.py`` files; the recipe's default globs leave its tests out."""

    def __init__(self, recipe: SourceRecipe) -> None:
        self._recipe = recipe
        self._root = Path(sysconfig.get_path("stdlib"))

    def resolved(self) -> SourceRecipe:
        """Fill in version, name, licence and the digest of the chosen files.

        Raises MissingSource when the interpreter has no library folder or not the version asked for.
        """
        version = platform.python_version()
        if self._recipe.version not in ("", version):
            raise MissingSource(
                f"the standard library asked for is that of Python {self._recipe.version}, this is {version}"
            )
        digest = content_digest(file_digests(self._root, self._paths()))
        return filled_in(
            self._recipe,
            version=version,
            name=self._recipe.name or f"cpython@{version}",
            licence=self._recipe.licence or LICENCE,
            content_digest=digest,
        )

    def read(self) -> Iterator[RawFile]:
        """The chosen files. Memory: one file. Raises CorpusError at the end when they have changed."""
        yield from read_folder(self._root, self._paths(), self._recipe)

    def _paths(self) -> list[str]:
        if not (self._root / "ast.py").is_file():
            raise MissingSource(
                f"{self._root}: the standard library of this interpreter is not a folder of files"
            )
        return choose_files(list_files(self._root, self._recipe.exclude), self._recipe, str(self._root))
