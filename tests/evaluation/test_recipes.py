"""Recipes of evaluation and RL: partitions, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.evaluation import LeaderboardRecipe, ReportRecipe, SamplesRecipe
from codellm_dag.recipes.rl import RlRecipe


def test_a_partition_keeps_only_its_benchmarks_block():
    recipe = SamplesRecipe.parse(
        {"humaneval": {"max_new_tokens": 7}, "microbench": {"max_new_tokens": 8, "temperature": 0.5}}
    )
    for key in ("microbench|sft@epochs=2", "sft|microbench"):
        part = recipe.for_partition(key)
        assert part.benchmark == "microbench"
        assert part.microbench == recipe.microbench
        assert part.humaneval == SamplesRecipe().humaneval
    # So a change of another benchmark's knob changes nothing here.
    other = recipe.with_changes({"humaneval.max_new_tokens": 9})
    assert other.for_partition("sft|microbench") == recipe.for_partition("sft|microbench")


@pytest.mark.parametrize("key", ["sft", "sft|mmlu", "", "microbench|humaneval"])
def test_a_partition_without_exactly_one_benchmark_is_refused(key: str):
    with pytest.raises(InvalidRecipeError, match="exactly one benchmark"):
        SamplesRecipe().for_partition(key)


@pytest.mark.parametrize(
    ("recipe", "values", "message"),
    [
        (SamplesRecipe, {"benchmark": "mmlu"}, "allowed: humaneval, microbench, bits_per_byte"),
        (SamplesRecipe, {"humaneval": {"samples_per_problem": 5}}, "repeats one greedy completion"),
        (SamplesRecipe, {"humaneval": {"temperature": -1}}, "humaneval.temperature = -1"),
        (SamplesRecipe, {"humaneval": {"known_reference_failures": ["a", "a"]}}, "names a problem twice"),
        (SamplesRecipe, {"bits_per_byte": {"window_tokens": 64, "stride_tokens": 65}}, "would not be scored"),
        (SamplesRecipe, {"mmlu": {}}, "SamplesRecipe.mmlu"),
        (ReportRecipe, {"pass_at": [1, 1]}, "different whole numbers"),
        (ReportRecipe, {"pass_at": [0]}, "at least 1"),
        (ReportRecipe, {"pass_at": []}, "ReportRecipe.pass_at"),
        (ReportRecipe, {"confidence": 95}, "less than 1"),
        (LeaderboardRecipe, {"digits": 0}, "LeaderboardRecipe.digits = 0"),
        (RlRecipe, {"estimator": "gae"}, "allowed: rloo, reinforce_plus_plus_baseline"),
        (RlRecipe, {"rollouts": {"group_size": 1}}, "rollouts.group_size = 1"),
        (RlRecipe, {"loss": {"minibatches": 64}}, "at least one group"),
        (RlRecipe, {"loss": {"kind": "policy_gradient", "epochs": 2}}, "use kind = clipped"),
        (RlRecipe, {"reward": {"kind": "length"}}, "'fraction' or 'all_or_nothing'"),
        (RlRecipe, {"execution": {"cpu_seconds": 0}}, "execution.cpu_seconds = 0"),
    ],
)
def test_bad_values_are_refused_with_the_field(recipe: Any, values: dict[str, Any], message: str):
    with pytest.raises(InvalidRecipeError, match=message):
        recipe.parse(values)


def fields(model: type[BaseModel], prefix: str = "") -> list[tuple[str, Any]]:
    """All fields below `model`, nested ones too."""
    found = []
    for name, field in model.model_fields.items():
        found.append((prefix + name, field))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found.extend(fields(field.annotation, f"{prefix}{name}."))
    return found


@pytest.mark.parametrize("recipe", [SamplesRecipe, ReportRecipe, LeaderboardRecipe, RlRecipe])
def test_every_field_is_described_bounded_and_has_the_source_of_its_default(recipe: type[BaseModel]):
    for name, field in fields(recipe):
        assert field.description, name
        if field.annotation in (int, float):
            assert len(field.metadata) >= 2, f"{name} has no bounds"
            assert "Source:" in field.description, name
