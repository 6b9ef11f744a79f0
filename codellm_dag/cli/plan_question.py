"""From a recipe and the options of ``codellm-dag plan`` to the question that `scaling.run_plan` answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from codellm_dag.cli.recipes import Choice
from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.presets import preset_names
from codellm_dag.recipes.tokens import ShardsRecipe, TokenizerRecipe
from codellm_dag.recipes.training import PretrainingRecipe, SftRecipe
from codellm_dag.scaling.memory import Work
from codellm_dag.scaling.published import PUBLISHED
from codellm_dag.scaling.run_plan import Question, micro_rows_for
from codellm_dag.training.architecture import Architecture, of_config, of_shape
from codellm_dag.training.devices import device_named

PLANNED = ("pretrained_checkpoint", "sft_checkpoint")
"""Stages whose sizes are known before they run."""


@dataclass(frozen=True)
class Sizes:
    """The options of the command; 0 and empty mean: as the recipe says."""

    devices: int
    device: str
    memory_gb: float
    teraflops: float
    mfu: float
    price: float
    model: str
    sequence_length: int
    micro_rows: int
    tokens: int
    precision: str
    checkpointing: bool | None
    tensor_parallel: int
    pipeline_parallel: int


def question_of(stage: str, choice: Choice, sizes: Sizes) -> Question:
    """The question about one stage. Raises InvalidRecipeError for a stage that does not train by tokens."""
    if stage not in PLANNED:
        hint = f"; {stage!r} is a preset: --recipe {stage}" if stage in preset_names() else ""
        raise InvalidRecipeError(
            f"the sizes of {stage!r} are not planned; allowed: {', '.join(PLANNED)} (with --manifests all)"
            + hint
        )
    recipe = choice.recipe_of(stage)
    assert isinstance(recipe, PretrainingRecipe | SftRecipe)
    _check(stage, recipe, sizes)
    length = sizes.sequence_length or _sequence_length(recipe, choice)
    rows = recipe.batch.largest
    replicas = sizes.devices // ((sizes.tensor_parallel or 1) * (sizes.pipeline_parallel or 1))
    micro = micro_rows_for(rows, max(1, replicas), sizes.micro_rows or rows)
    work = Work(
        model=_model(choice, sizes.model),
        length=length,
        micro_rows=micro,
        accumulation=rows // (micro * max(1, replicas)),
        optimizer=recipe.optimizer.name,
        precision=sizes.precision or recipe.compute.precision,
        checkpointing=recipe.compute.gradient_checkpointing
        if sizes.checkpointing is None
        else sizes.checkpointing,
    )
    return Question(
        work=work,
        global_rows=rows,
        tokens=_tokens(recipe, sizes.tokens),
        devices=sizes.devices,
        device=device_named(sizes.device, sizes.memory_gb, sizes.teraflops),
        mfu=sizes.mfu,
        price=sizes.price,
        shard_group=recipe.backend.hybrid_sharding,
        tensor=sizes.tensor_parallel,
        pipeline=sizes.pipeline_parallel,
        batch=recipe.batch,
    )


def _check(stage: str, recipe: PretrainingRecipe | SftRecipe, sizes: Sizes) -> None:
    """Refuse what the formulas do not know, in place of numbers that would be wrong."""
    if not isinstance(recipe, SftRecipe):
        return
    if recipe.lora.rank:
        raise InvalidRecipeError(
            f"{stage}.lora.rank = {recipe.lora.rank}: adapters are not planned; allowed: 0, all weights"
        )
    if recipe.base == "base_checkpoint" and not sizes.model:
        raise InvalidRecipeError(
            f"{stage}.base = {recipe.base!r}: an outside model's sizes are not in the recipe; give --model: "
            f"{', '.join(PUBLISHED)}, or the path of a config.json"
        )


def _tokens(recipe: PretrainingRecipe | SftRecipe, given: int) -> int:
    if isinstance(recipe, SftRecipe):
        return round(given * recipe.epochs)
    return given or recipe.tokens


def _sequence_length(recipe: PretrainingRecipe | SftRecipe, choice: Choice) -> int:
    if isinstance(recipe, SftRecipe):
        return recipe.sequence_length
    shards = choice.recipe_of("token_shards")
    assert isinstance(shards, ShardsRecipe)
    return shards.sequence_length


def _model(choice: Choice, name: str) -> Architecture:
    """A published model, the one of a config.json, or the one that pretraining makes."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    if name:
        path = Path(name)
        path = path / "config.json" if path.is_dir() else path
        try:
            return of_config(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError) as error:
            raise InvalidRecipeError(
                f"--model {name!r}: {error}; allowed: {', '.join(PUBLISHED)}, or the path of a config.json"
            ) from error
    pretraining, tokenizer = choice.recipe_of("pretrained_checkpoint"), choice.recipe_of("tokenizer")
    assert isinstance(pretraining, PretrainingRecipe)
    assert isinstance(tokenizer, TokenizerRecipe)
    return of_shape(pretraining.model, tokenizer.vocabulary_size)
