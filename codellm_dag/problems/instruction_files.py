"""The files of instruction data that a recipe names, and `resolve`, which pins them before the launch.

Imports nothing heavy; reads the files once for their digest. Nothing is taken from a network.
"""

from __future__ import annotations

import re
from pathlib import Path

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.sources.base import content_digest
from codellm_dag.corpora.sources.digests import file_digests
from codellm_dag.recipes.sft_sources import ExecutedExamplesRecipe

ENDINGS = (".jsonl", ".parquet")


def resolve(recipe: ExecutedExamplesRecipe, key: str = "") -> ExecutedExamplesRecipe:
    """The recipe with absolute path, name and digest of the files filled in; as it is without a path.

    Raises CorpusError for a path that is missing or holds no file that can be read.
    """
    del key
    if not recipe.path:
        return recipe
    root, names = instruction_files(recipe)
    digest = content_digest(file_digests(root, names))
    place = Path(recipe.path).expanduser().absolute()
    name = recipe.name or re.sub(r"[^\w.@+-]", "_", place.stem if place.is_file() else place.name)
    return ExecutedExamplesRecipe.parse(
        {**recipe.model_dump(), "path": str(place), "name": name, "content_digest": digest}
    )


def instruction_files(recipe: ExecutedExamplesRecipe) -> tuple[Path, list[str]]:
    """The folder and the names of the files in it, sorted. Raises CorpusError as `resolve`."""
    place = Path(recipe.path).expanduser().absolute()
    if place.is_file() and place.suffix in ENDINGS:
        return place.parent, [place.name]
    names = (
        sorted(path.name for path in place.iterdir() if path.suffix in ENDINGS and path.is_file())
        if place.is_dir()
        else []
    )
    if not names:
        raise CorpusError(
            f"ExecutedExamplesRecipe.path = {str(place)!r}: no such file, or no file in it; allowed: a "
            f"{' or '.join(ENDINGS)} file, or a folder with such files"
        )
    return place, names
