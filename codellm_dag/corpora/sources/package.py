"""Files of a pinned wheel or sdist that the set-up has fetched, read from the archive.

Nothing is unpacked or run. Not covered: fetching (`corpora/fetch.py`), and packages that are not pinned in
``packages.toml``, unless the recipe itself gives version, file, sha256 and licence.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.packages import Pin, fetched_file, pin_of
from codellm_dag.corpora.sources.base import RawFile, choose_files, filled_in
from codellm_dag.recipes.sources import SourceRecipe


class Package:
    """The files of one package that the globs choose; paths are relative to the pin's ``root``."""

    def __init__(self, recipe: SourceRecipe) -> None:
        self._recipe = recipe

    def resolved(self) -> SourceRecipe:
        """Fill in version, file, digest, licence, root and globs from the pin.

        Raises MissingSource when the file was not fetched, CorpusError when it is not the pinned one, when
        the package is not pinned, or when it is pinned for another language.
        """
        recipe = self._recipe
        if not (recipe.version and recipe.file and recipe.sha256 and recipe.licence):
            recipe = _with_pin(recipe, pin_of(recipe.package))
        fetched_file(recipe.file, recipe.sha256)
        return filled_in(recipe, name=recipe.name or f"{recipe.package}@{recipe.version}")

    def read(self) -> Iterator[RawFile]:
        """The chosen files. Memory: the package's files below its root (a few MB)."""
        path = fetched_file(self._recipe.file, self._recipe.sha256)
        root = self._recipe.root.strip("/") + "/" if self._recipe.root else ""
        members = _zip_members(path, root) if path.suffix == ".whl" else _tar_members(path, root)
        contents = {name.removeprefix(root): content for name, content in members}
        sizes = {name: len(content) for name, content in contents.items()}
        for name in choose_files(sizes, self._recipe, path.name):
            yield RawFile(name, contents[name], self._recipe.licence)


def _with_pin(recipe: SourceRecipe, pin: Pin) -> SourceRecipe:
    if pin.language != recipe.language:
        raise CorpusError(f"package {pin.package!r} is pinned for {pin.language}, not for {recipe.language}")
    return filled_in(
        recipe,
        version=pin.version,
        file=pin.file,
        sha256=pin.sha256,
        licence=recipe.licence or pin.licence,
        root=recipe.root or pin.root,
        include=recipe.include or pin.include,
        exclude=list(dict.fromkeys([*recipe.exclude, *pin.exclude])),
    )


def _zip_members(path: Path, root: str) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir() and member.filename.startswith(root):
                    yield member.filename, archive.read(member)
    except (zipfile.BadZipFile, OSError) as error:
        raise CorpusError(f"{path}: not a readable wheel ({error})") from error


def _tar_members(path: Path, root: str) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() else None
                if stream and member.name.startswith(root):
                    yield member.name, stream.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise CorpusError(f"{path}: not a readable sdist ({error})") from error
