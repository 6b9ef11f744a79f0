"""Group corpora: source files of each language, cleaned, and mixed."""

from __future__ import annotations

import dagster as dg

from assets.partitions import LANGUAGES
from assets.stage_asset import Inputs, Requests, many, recipe_of, stage_asset
from codellm_dag.corpora.sources import resolve
from codellm_dag.recipes.corpora import RawCorpusRecipe
from resources.io_manager import Artifacts


@stage_asset(group="corpora", owner="team:data", kinds={"parquet"}, partitions=LANGUAGES, prepare=resolve)
def raw_corpus(context: dg.AssetExecutionContext) -> Requests:
    """Source files of one language as documents with path, source and licence, before any cleaning."""
    return {language: {} for language in recipe_of(context, RawCorpusRecipe).languages()}


@stage_asset(
    group="corpora",
    owner="team:data",
    kinds={"parquet"},
    partitions=LANGUAGES,
    mappings={"benchmark_problems": dg.AllPartitionMapping()},
)
def clean_corpus(raw_corpus: Artifacts, benchmark_problems: Artifacts) -> Requests:
    """Documents that passed licence, quality, dedup and decontamination; the rejected ones with reasons."""
    benchmarks = many("benchmark", benchmark_problems)
    return {language: {"corpus": corpus, **benchmarks} for language, corpus in raw_corpus.items()}


@stage_asset(group="corpora", owner="team:data", kinds={"parquet"}, verify=True)
def mixture(clean_corpus: Artifacts) -> Inputs:
    """The languages weighted into one training corpus, with documents held out by hash."""
    return many("corpus", clean_corpus)
