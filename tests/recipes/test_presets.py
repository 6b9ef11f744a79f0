"""Presets: YAML run config as the source of recipes' defaults."""

import pytest
from pydantic import Field

from codellm_dag.recipes import InvalidRecipeError, Recipe
from codellm_dag.recipes.presets import (
    current_preset,
    overlay,
    preset_names,
    preset_path,
    preset_recipe,
    run_config,
)
from codellm_dag.stages.registry import STAGES


class Inner(Recipe):
    rate: float = Field(default=0.1, gt=0)
    name: str = "x"


class Outer(Recipe):
    inner: Inner = Field(default_factory=lambda: Inner(rate=0.5))
    ids: list[int] = Field(default_factory=lambda: [1])
    by_name: dict[str, int] = Field(default_factory=lambda: {"a": 1})


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("stage", list(STAGES))
def test_every_preset_holds_recipes_that_are_allowed(preset, stage):
    assert preset_recipe(stage, STAGES[stage].recipe_class(), preset)


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_names_only_assets_there_are(preset):
    assert set(run_config(preset).get("ops") or {}) <= set(STAGES)


def test_the_preset_is_the_environments_or_laptop(monkeypatch):
    monkeypatch.delenv("CODELLM_PRESET", raising=False)
    assert current_preset() == "laptop"
    monkeypatch.setenv("CODELLM_PRESET", "tiny")
    assert current_preset() == "tiny"
    assert {"laptop", "tiny"} <= set(preset_names())


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(InvalidRecipeError, match=r"'desktop' does not exist; allowed: .*laptop.*tiny"):
        preset_path("desktop")


def test_a_preset_can_be_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("ops: {outer: {config: {inner: {rate: 0.25}, ids: [2, 3]}}}")
    assert preset_recipe("outer", Outer, str(path)) == Outer(inner=Inner(rate=0.25), ids=[2, 3])
    assert preset_recipe("another", Outer, str(path)) == Outer()


@pytest.mark.parametrize("text", ["- 1", "ops: 3", "ops: {a: 3}", "ops: {a: {config: [1]}}"])
def test_a_file_of_another_shape_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(InvalidRecipeError, match=r"odd\.yaml"):
        run_config(str(path))


def test_an_overlay_reaches_into_recipes_and_replaces_lists_and_mappings():
    base = Outer(inner=Inner(rate=0.3, name="kept"), ids=[1, 2], by_name={"a": 1})
    found = overlay(base, {"inner": {"rate": 2}, "ids": [9], "by_name": {"b": 2}})
    assert found == Outer(inner=Inner(rate=2.0, name="kept"), ids=[9], by_name={"b": 2})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"rate": 0}}, r"Outer\.inner\.rate = 0: Input should be greater than 0"),
        ({"inner": {"rat": 1}}, r"Outer\.inner\.rat = 1: Extra inputs are not permitted"),
        ({"outer": 1}, r"Outer\.outer = 1"),
        ({"inner": 3}, r"Outer\.inner = 3"),
    ],
)
def test_an_overlay_names_the_bad_field(values, message):
    with pytest.raises(InvalidRecipeError, match=message):
        overlay(Outer(), values)


@pytest.mark.parametrize("stage", list(STAGES))
def test_tiny_means_the_same_over_laptop_as_alone(stage):
    """``dagster job execute -c tiny.yaml`` lays it over the laptop, CODELLM_PRESET=tiny does not."""
    recipe_class = STAGES[stage].recipe_class()
    given = (run_config("tiny").get("ops") or {}).get(stage, {}).get("config", {})
    over_laptop = overlay(preset_recipe(stage, recipe_class, "laptop"), given)
    assert over_laptop == preset_recipe(stage, recipe_class, "tiny"), (
        f"laptop.yaml names fields of {stage} that tiny.yaml does not; name them in tiny.yaml too"
    )
