"""A small graph of the four kinds of partitioning, made of real stages with the real decorator."""

import dagster as dg
from toy_stages.recipes import NumberRecipe

from assets.partitions import LANGUAGES, MODEL_EVALUATIONS, TRIALS, model_key
from assets.stage_asset import many, recipe_of, stage_asset
from codellm_dag.corpora.errors import MissingSource
from codellm_dag.stages.registry import Stage
from resources.keys import evaluation_key


def _stage(name: str, kind: str, slots: dict[str, str]) -> Stage:
    return Stage(
        name, kind, f"toy_stages.{name}", f"toy_stages.recipes:{name.capitalize()}Recipe", slots, ("pyarrow",)
    )


def _prepare(recipe: NumberRecipe, language: str) -> NumberRecipe:
    if language == "go":
        raise MissingSource("the package of go was not fetched; run make corpora")
    return recipe.for_partition(language)


@stage_asset(
    group="toys",
    owner="team:data",
    kinds={"json"},
    partitions=LANGUAGES,
    prepare=_prepare,
    stage=_stage("number", "corpus", {}),
)
def number(context):
    """A number per language."""
    return {language: {} for language in recipe_of(context, NumberRecipe).numbers}


@stage_asset(
    group="toys",
    owner="team:data",
    kinds=(),
    verify=True,
    stage=_stage("total", "corpus", {"number/*": "corpus"}),
)
def total(number):
    """Their sum."""
    return many("number", number)


@stage_asset(
    group="toys",
    owner="team:models",
    kinds=(),
    partitions=TRIALS,
    model="scaled",
    stage=_stage("scaled", "checkpoint", {"total": "corpus"}),
)
def scaled(total):
    """The sum times a factor; a trial changes the factor."""
    return {"total": total}


@stage_asset(
    group="toys",
    owner="team:evals",
    kinds=(),
    partitions=MODEL_EVALUATIONS,
    mappings={"scaled": dg.AllPartitionMapping()},
    stage=_stage("judged", "report", {"model": "checkpoint"}),
)
def judged(scaled):
    """Each model on two benchmarks."""
    return {
        evaluation_key(model_key("scaled", trial), benchmark): {"model": artifact}
        for trial, artifact in scaled.items()
        for benchmark in ("humaneval", "microbench")
    }


ASSETS = [number, total, scaled, judged]
