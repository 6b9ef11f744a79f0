"""The files of instruction data that a recipe names, and `resolve`, which pins them before the launch.

Imports nothing heavy; reads the files once for their digest. Nothing is taken from a network.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TypeVar

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.sources.base import content_digest
from codellm_dag.corpora.sources.digests import file_digests
from codellm_dag.recipes.sft_sources import ExecutedExamplesRecipe, InstructionDataRecipe, InstructionFiles

ENDINGS = (".jsonl", ".parquet")

F = TypeVar("F", bound=InstructionFiles)


def resolve(recipe: ExecutedExamplesRecipe, key: str = "") -> ExecutedExamplesRecipe:
    """The recipe with absolute path, name and digest of the files filled in; as it is without a path.

    Raises CorpusError for a path that is missing or holds no file that can be read.
    """
    del key
    return _pinned(recipe) if recipe.path else recipe


def resolve_dataset(recipe: InstructionDataRecipe, key: str) -> InstructionDataRecipe:
    """The recipe of the dataset `key` alone, its files pinned. Raises as `resolve`."""
    one = recipe.for_partition(key)
    return one.model_copy(update={"datasets": tuple(_pinned(dataset) for dataset in one.datasets)})


def _pinned(recipe: F) -> F:
    root, names = instruction_files(recipe)
    digest = content_digest(file_digests(root, names))
    place = Path(recipe.path).expanduser().absolute()
    name = recipe.name or re.sub(r"[^\w.@+-]", "_", place.stem if place.is_file() else place.name)
    return type(recipe).parse(
        {**recipe.model_dump(), "path": str(place), "name": name, "content_digest": digest}
    )


def instruction_files(recipe: InstructionFiles) -> tuple[Path, list[str]]:
    """The folder and the names of the files in it and below, sorted; none that is hidden.

    Raises CorpusError as `resolve`.
    """
    place = Path(recipe.path).expanduser().absolute()
    if place.is_file() and place.suffix in ENDINGS:
        return place.parent, [place.name]
    inside = (path.relative_to(place) for path in place.rglob("*") if path.suffix in ENDINGS)
    names = sorted(
        path.as_posix()
        for path in inside
        if (place / path).is_file() and not any(part.startswith(".") for part in path.parts)
    )
    if not names:
        what = f"{recipe.name}: " if recipe.name else ""
        raise CorpusError(
            f"{what}{type(recipe).__name__}.path = {str(place)!r}: no such file, or no file in it; allowed: "
            f"a {' or '.join(ENDINGS)} file, or a folder with such files"
        )
    return place, names
