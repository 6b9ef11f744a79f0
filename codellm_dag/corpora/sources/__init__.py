"""Sources of documents, one small class a file, and `resolve`, which pins what a recipe means here.

`resolve` is called before a stage is launched, imports nothing heavy and takes under a second: it fills
versions and digests of the content into the recipe, so that the recipe's fingerprint changes when the content
does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from codellm_dag.corpora.errors import CorpusError, MissingSource
from codellm_dag.corpora.sources.base import RawFile, Source
from codellm_dag.corpora.sources.hf_dataset import HfDataset
from codellm_dag.corpora.sources.local_dir import LocalDir
from codellm_dag.corpora.sources.package import Package
from codellm_dag.corpora.sources.python_stdlib import PythonStdlib
from codellm_dag.recipes.corpora import RawCorpusRecipe
from codellm_dag.recipes.sources import SourceRecipe

KINDS: Mapping[str, Callable[[SourceRecipe], Source]] = MappingProxyType(
    {
        "local_dir": LocalDir,
        "python_stdlib": PythonStdlib,
        "package": Package,
        "hf_dataset": HfDataset,
    }
)
"""The class of each kind of source."""


def open_source(recipe: SourceRecipe) -> Source:
    """The source that a recipe describes; touches nothing yet."""
    return KINDS[recipe.kind](recipe)


def resolve(recipe: RawCorpusRecipe, language: str) -> RawCorpusRecipe:
    """The part of the recipe for one language, with every source pinned to its content on this machine.

    Idempotent as long as the content stays. Raises MissingSource when the recipe has no source for the
    language or a package was not fetched: the asset then leaves the language out. Raises CorpusError when a
    source is not as the recipe says.
    """
    sources = [open_source(source).resolved() for source in recipe.for_partition(language).sources]
    if not sources:
        raise MissingSource(f"the recipe has no source for {language}; add one to raw_corpus.sources")
    names = [source.name for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CorpusError(f"two sources of {language} are named {twice[0]!r}; give each its own 'name'")
    return RawCorpusRecipe(sources=sources)


__all__ = ["KINDS", "CorpusError", "MissingSource", "RawFile", "Source", "open_source", "resolve"]
