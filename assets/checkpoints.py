"""Group checkpoints: pretraining from scratch, and supervised fine-tuning by trial."""

from __future__ import annotations

import dagster as dg

from assets.partitions import TRIALS
from assets.stage_asset import GPU_POOL, Inputs, chosen, many, partition_of, recipe_of, stage_asset
from codellm_dag.recipes.problems import SftDataRecipe
from codellm_dag.recipes.training import PretrainingRecipe, SftRecipe
from codellm_dag.store import Artifact
from codellm_dag.training.outside_models import resolved
from resources.io_manager import Artifacts

_MODEL_KINDS = {"huggingface", "pytorch"}


@stage_asset(
    group="checkpoints",
    owner="team:models",
    kinds={"huggingface"},
    prepare=resolved,
    model="base",
    verify=True,
)
def base_checkpoint() -> Inputs:
    """A model that was trained elsewhere: a folder, a commit on the Hugging Face Hub, or a package's file."""
    return {}


@stage_asset(
    group="checkpoints",
    owner="team:models",
    kinds=_MODEL_KINDS,
    model="pretrained",
    optional=("base_checkpoint",),
    verify=True,
    pool=GPU_POOL,
)
def pretrained_checkpoint(
    recipe: PretrainingRecipe,
    tokenizer: Artifact,
    token_shards: Artifacts,
    base_checkpoint: Artifact | None,
) -> Inputs:
    """A Llama-style model trained on the shards of all languages, from scratch or from the base's weights."""
    names = [] if recipe.start.how == "fresh" else ["base_checkpoint"]
    start = [("start", artifact) for artifact in chosen({"base_checkpoint": base_checkpoint}, names).values()]
    return {"tokenizer": tokenizer, **many("shards", token_shards), **dict(start)}


@stage_asset(
    group="checkpoints",
    owner="team:data",
    kinds={"parquet"},
    optional=("executed_examples", "doctest_functions", "edit_sequences"),
)
def sft_data(
    context: dg.AssetExecutionContext,
    benchmark_problems: Artifacts,
    executed_examples: Artifact | None,
    doctest_functions: Artifact | None,
    edit_sequences: Artifact | None,
) -> Inputs:
    """Chat examples from templates that no benchmark holds out, and those that the recipe's `others`
    names."""
    made = {
        "executed_examples": executed_examples,
        "doctest_functions": doctest_functions,
        "edit_sequences": edit_sequences,
    }
    named = [other.source for other in recipe_of(context, SftDataRecipe).others]
    return {**many("benchmark", benchmark_problems), **many("examples", chosen(made, named))}


@stage_asset(
    group="checkpoints",
    owner="team:models",
    kinds=_MODEL_KINDS,
    partitions=TRIALS,
    model="sft",
    mappings={"token_shards": dg.AllPartitionMapping(), "instruction_data": dg.AllPartitionMapping()},
    optional=("pretrained_checkpoint", "base_checkpoint", "sft_data"),
    verify=True,
    pool=GPU_POOL,
)
def sft_checkpoint(
    recipe: SftRecipe,
    pretrained_checkpoint: Artifact | None,
    base_checkpoint: Artifact | None,
    sft_data: Artifact | None,
    instruction_data: Artifacts,
    token_shards: Artifacts,
) -> Inputs:
    """A pretrained model fine-tuned on chat examples. A trial's key is its change, e.g. `epochs=2`."""
    data = examples_of(recipe, sft_data, instruction_data)
    made = {"pretrained_checkpoint": pretrained_checkpoint, "base_checkpoint": base_checkpoint}
    own = {"checkpoint": chosen(made, [recipe.base])[recipe.base], "data": data}
    return {**own, **many("shards", token_shards)}  # rows of pretraining to replay


def examples_of(recipe: SftRecipe, sft_data: Artifact | None, instruction_data: Artifacts) -> Artifact:
    """What `recipe` learns from: the dataset that its field ``data`` names, else `sft_data`.

    Raises Failure for one that was never made.
    """
    if recipe.data:
        return partition_of("instruction_data", instruction_data, recipe.data)
    return chosen({"sft_data": sft_data}, ["sft_data"])["sft_data"]
