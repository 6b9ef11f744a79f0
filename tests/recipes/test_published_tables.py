"""Published tables, and the presets that follow them."""

from __future__ import annotations

import pytest

from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.presets import preset_recipe
from codellm_dag.recipes.published_tables import published_tables
from codellm_dag.recipes.sft_sources import InstructionDataRecipe
from codellm_dag.recipes.training import PretrainingRecipe, SftRecipe
from codellm_dag.training.architecture import of_shape
from codellm_dag.training.backends.protocol import backend

GUIDE = published_tables("sft_guide")


@pytest.mark.parametrize(
    ("preset", "model", "gpus"),
    [
        ("sft-qwen2.5-coder-14b", "Qwen2.5-Coder-14B", 64),
        ("sft-datasets", "Qwen2.5-Coder-14B", 64),
        ("sft-qwen3-30b-a3b", "Qwen3-30B-A3B", 16),
    ],
)
def test_presets_keep_to_the_recommended_ranges(preset: str, model: str, gpus: int) -> None:
    (row,) = (row for row in GUIDE["hyperparameters"].rows if row["model"] == model)
    recipe = preset_recipe("sft_checkpoint", SftRecipe, preset)
    given = {
        "global_batch": recipe.batch.global_rows,
        "learning_rate": recipe.optimizer.learning_rate,
        "epochs": recipe.epochs,
        "warmup_ratio": recipe.optimizer.warmup_fraction,
    }
    for name, value in given.items():
        low, high = row[name]
        assert low <= value <= high, name
    assert (recipe.optimizer.schedule, row["gpus"]) == (row["schedule"], gpus)
    assert recipe.batch.global_rows % gpus == 0
    assert recipe.base == "base_checkpoint"


def test_the_comparison_of_frameworks_has_the_tables_setting() -> None:
    table, recipe = GUIDE["frameworks"], preset_recipe("sft_checkpoint", SftRecipe, "sft-frameworks")
    assert recipe.batch.global_rows == table.setting["global_batch"]
    assert recipe.optimizer.learning_rate == table.setting["learning_rate"]
    assert recipe.optimizer.warmup_fraction == table.setting["warmup_ratio"]
    assert (recipe.epochs, recipe.sequence_length) == (3, table.setting["maximum_length"])
    assert {row["framework"] for row in table.rows} == {"QwenCoder-SFT", "LLaMA-Factory", "MS-Swift", "verl"}
    assert (recipe.compute.precision, recipe.compute.gradient_checkpointing) == ("bf16", True)
    for name in ("trainer", "deepspeed", "fsdp2", "llamafactory", "swift", "megatron_swift", "verl"):
        chosen = recipe.with_changes({"backend": {"name": name}})
        assert backend(name).refusals(chosen) == [], name


def test_the_comparison_of_datasets_has_those_that_are_known() -> None:
    recipe = preset_recipe("instruction_data", InstructionDataRecipe, "sft-datasets")
    known = {row["dataset"].rpartition("/")[2].lower() for row in GUIDE["datasets"].rows}
    frameworks = GUIDE["frameworks"].setting["data"].lower()
    assert set(recipe.names()) == (known | {frameworks}) - {"code_contests"}


@pytest.mark.parametrize(
    ("preset", "vocabulary", "parameters"),
    [
        ("pretrain-small", 49_152, 134_515_008),  # SmolLM2-135M
        ("pretrain-1b", 32_000, 1_100_048_384),  # TinyLlama-1.1B
        ("pretrain-7b", 32_000, 6_738_415_616),  # Llama 2 7B
    ],
)
def test_pretraining_presets_have_the_published_sizes(preset: str, vocabulary: int, parameters: int) -> None:
    recipe = preset_recipe("pretrained_checkpoint", PretrainingRecipe, preset)
    assert of_shape(recipe.model, vocabulary).parameters == parameters


def test_what_is_not_there_or_not_whole_is_refused() -> None:
    with pytest.raises(InvalidRecipeError, match=r"'nosuch' do not exist; allowed: .*sft_guide"):
        published_tables("nosuch")
    with pytest.raises(InvalidRecipeError, match="fsdp2 cannot express it"):
        preset_recipe("pretrained_checkpoint", PretrainingRecipe, "pretrain-7b").with_changes(
            {"backend.zero_stage": 3}
        )
