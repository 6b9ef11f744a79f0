"""The cleaning steps, one file each, and the table that makes them from a recipe.

A new step is one file here, its fields in `recipes/corpora.py`, and its line in `STEPS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from codellm_dag.corpora.steps.base import Rejection, Step
from codellm_dag.corpora.steps.decontamination import Decontamination, benchmark_texts
from codellm_dag.corpora.steps.exact_dedup import ExactDedup
from codellm_dag.corpora.steps.licence import LicenceFilter
from codellm_dag.corpora.steps.near_dedup import NearDedup
from codellm_dag.corpora.steps.quality import QualityFilter
from codellm_dag.recipes.corpora import CleanCorpusRecipe

Benchmarks = Mapping[str, Path]
"""The folder of each benchmark's problems artifact, by name."""

STEPS: Mapping[str, Callable[[CleanCorpusRecipe, Benchmarks], Step]] = MappingProxyType(
    {
        "licence": lambda recipe, _: LicenceFilter(recipe.licence),
        "quality": lambda recipe, _: QualityFilter(recipe.quality),
        "exact_dedup": lambda recipe, _: ExactDedup(recipe.exact_dedup),
        "near_dedup": lambda recipe, _: NearDedup(recipe.near_dedup),
        "decontamination": lambda recipe, benchmarks: Decontamination(
            recipe.decontamination, benchmark_texts(benchmarks)
        ),
    }
)
"""How each step is made, by its name in `CleanCorpusRecipe.steps`."""

__all__ = ["STEPS", "Benchmarks", "Rejection", "Step"]
