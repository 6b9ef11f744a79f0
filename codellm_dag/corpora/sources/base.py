"""What a source is, and what sources of files share: choosing files, and a digest of what was chosen.

A source is one small class: `resolved` fills in what identifies its content (light: called before anything is
launched), `read` yields the files (called in the stage). Adding a kind is one file here, its name in
`SourceKind`, its fields in `SourceRecipe`, and its line in `sources/__init__.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.globs import matcher
from codellm_dag.corpora.languages import EXTENSIONS, is_source_file
from codellm_dag.recipes.sources import SourceRecipe


@dataclass(frozen=True)
class RawFile:
    """A file as it was found: a path relative to the source, its bytes, and its SPDX licence."""

    path: str
    content: bytes
    licence: str


class Source(Protocol):
    """One place that documents come from, made from its `SourceRecipe`."""

    def resolved(self) -> SourceRecipe:
        """The recipe with everything filled in that identifies the content: versions, digests, licence.

        Raises MissingSource when the source is not on this machine, CorpusError when it is not as described.
        """
        ...

    def read(self) -> Iterator[RawFile]:
        """The files, in sorted order of path (a stream: in its own order).

        Raises CorpusError when the content is not what the resolved recipe says.
        """
        ...


def choose_files(sizes: Mapping[str, int], recipe: SourceRecipe, where: str) -> list[str]:
    """The paths that a recipe takes, sorted.

    ``sizes`` are all paths of the source with their bytes. Globs choose first; then, with ``max_bytes``,
    files are taken in the order of SHA-256 of seed and path as long as they fit, so that the choice does not
    depend on the order of a folder and barely changes when a file comes or goes. Raises CorpusError when an
    ``include`` glob matches nothing, or when no file is left.
    """
    excluded = matcher(recipe.exclude)
    names = [path for path in sizes if not excluded(path)]
    if recipe.include:
        for pattern in recipe.include:
            if not any(map(matcher([pattern]), names)):
                raise CorpusError(
                    f"{where}: the glob {pattern!r} in 'include' matches no file that is not excluded"
                )
        included = matcher(recipe.include)
        names = [path for path in names if included(path)]
    else:
        names = [path for path in names if is_source_file(path, recipe.language)]
    chosen = _within(names, sizes, recipe.max_bytes, recipe.seed) if recipe.max_bytes else names
    if not chosen:
        wanted = " or ".join(recipe.include or EXTENSIONS[recipe.language])
        raise CorpusError(
            f"{where}: no {recipe.language} file ({wanted}) to take; look at its globs and max_bytes"
        )
    return sorted(chosen)


def _within(names: Iterable[str], sizes: Mapping[str, int], max_bytes: int, seed: int) -> list[str]:
    taken: list[str] = []
    total = 0
    for path in sorted(names, key=lambda name: hashlib.sha256(_bytes(f"{seed}:{name}")).digest()):
        if total + sizes[path] <= max_bytes:
            taken.append(path)
            total += sizes[path]
    return taken


def filled_in(recipe: SourceRecipe, **values: object) -> SourceRecipe:
    """The recipe with some fields replaced, validated again."""
    return SourceRecipe.parse({**recipe.model_dump(), **values})


def content_digest(digests: Iterable[tuple[str, str]]) -> str:
    """SHA-256 (hex) over paths and the SHA-256 (hex) of their bytes, in the order given (sorted paths)."""
    whole = hashlib.sha256()
    for path, digest in digests:
        name = _bytes(path)
        whole.update(b"%d:%s:%s\n" % (len(name), name, digest.encode()))
    return whole.hexdigest()


def _bytes(path: str) -> bytes:
    """The bytes of a file name, also of one that is not UTF-8."""
    return path.encode("utf-8", "surrogateescape")


def verify_digest(found: str, recipe: SourceRecipe, where: str) -> None:
    """Raise CorpusError when the files that were read are not those that the recipe was resolved for."""
    if found != recipe.content_digest:
        raise CorpusError(
            f"{where}: its files are not those of the recipe (digest {found[:12]}…, recipe "
            f"{recipe.content_digest[:12]}…); they have changed, or differ on this machine: run again"
        )
