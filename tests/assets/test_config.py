"""The config schema derived from a recipe, as Dagster validates it."""

from enum import Enum
from typing import Literal

import dagster as dg
import pytest
from pydantic import Field

from assets import config as config_module
from assets.config import check_run_config, config_schema, run_config_of
from codellm_dag.recipes import InvalidRecipeError, Recipe
from codellm_dag.stages.registry import STAGES


class Colour(Enum):
    """Two values whose names differ from them."""

    RED = "red-value"
    BLUE = "blue-value"


class Leaf(Recipe):
    weight: float = Field(default=1.0, gt=0, le=2, description="Its weight.")
    tags: list[str] = Field(default_factory=lambda: ["a"])


class Element(Recipe):
    name: str
    leaf: Leaf = Field(default_factory=lambda: Leaf(weight=0.25))


class Tree(Recipe):
    count: int = Field(default=3, ge=1, le=9, description="How many.")
    kind: Literal["oak", "elm"] = "oak"
    kinds: list[Literal["oak", "elm"]] = Field(default_factory=list, max_length=2)
    colour: Colour = Colour.RED
    leaf: Leaf = Field(default_factory=Leaf)
    elements: list[Element] = Field(default_factory=list)
    by_name: dict[str, Leaf] = Field(default_factory=dict)
    limit: int | None = None
    note: str | None = "x"
    sizes: tuple[int, ...] = (1, 2)
    ratio: Literal[1, 2] = 1


def resolved(recipe: Recipe, values: dict) -> dict:
    """What an asset's body sees for these values, through a real run."""
    seen = {}

    @dg.asset(config_schema=config_schema(recipe))
    def probe(context: dg.AssetExecutionContext) -> None:
        seen.update(context.op_execution_context.op_config)

    run_config = {"ops": {"probe": {"config": values}}} if values else None
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([probe], run_config=run_config, instance=instance)
    return seen


def test_no_config_is_the_recipe_itself():
    recipe = Tree(count=7, leaf=Leaf(weight=0.5), colour=Colour.BLUE, limit=4)
    assert resolved(recipe, {}) == recipe.model_dump(mode="json")


def test_a_nested_field_alone_keeps_the_other_defaults_of_the_instance():
    seen = Tree.parse(resolved(Tree(leaf=Leaf(weight=0.5, tags=["kept"])), {"leaf": {"weight": 1.5}}))
    assert seen.leaf == Leaf(weight=1.5, tags=["kept"])


def test_lists_mappings_and_options_of_recipes():
    given = {
        "elements": [{"name": "first"}, {"name": "second", "leaf": {"tags": []}}],
        "by_name": {"one": {"weight": 2}},
        "kinds": ["elm"],
        "limit": 5,
        "note": None,
        "sizes": [3],
        "colour": "blue-value",
        "ratio": 2,
    }
    seen = Tree.parse(resolved(Tree(), given))
    assert [(e.name, e.leaf.weight, e.leaf.tags) for e in seen.elements] == [
        ("first", 0.25, ["a"]),
        ("second", 0.25, []),
    ]
    assert seen.by_name["one"] == Leaf(weight=2.0)
    assert (seen.kinds, seen.limit, seen.note, seen.sizes) == (["elm"], 5, None, (3,))
    assert (seen.colour, seen.ratio) == (Colour.BLUE, 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "ash"}, r"config:kind not in enum type one of: oak, elm; got ash"),
        ({"kinds": ["ash"]}, r"one of: oak, elm; got ash"),
        ({"colour": "RED"}, r"one of: red-value, blue-value; got RED"),
        ({"nosuch": 1}, r'unexpected config entry "nosuch" at path root:ops:probe:config'),
        ({"leaf": {"weight": "heavy"}}, r'config:leaf:weight. Value "heavy"'),
        ({"elements": [{}]}, r'Missing required config entry "name"'),
        ({"count": 1.5}, r"config:count"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_before_the_run_and_named(values, message):
    with pytest.raises(dg.DagsterInvalidConfigError, match=message):
        resolved(Tree(), values)


def test_bounds_are_told_in_the_description():
    schema = config_schema(Tree())
    assert schema["count"].description == "How many. Allowed: ≥ 1, ≤ 9."
    assert schema["kinds"].description == "Allowed: at most 2 items."
    assert schema["leaf"].config_type.fields["weight"].description == "Its weight. Allowed: > 0, ≤ 2."


def test_a_type_that_dagster_cannot_hold_is_named():
    class Odd(Recipe):
        pair: tuple[int, str] = (1, "a")

    with pytest.raises(TypeError, match=r"Odd\.pair"):
        config_schema(Odd())


@pytest.mark.parametrize("asset", list(STAGES))
def test_every_stage_has_a_schema_whose_defaults_are_its_preset(asset):
    recipe = config_module.asset_recipe_default(STAGES[asset])
    assert type(recipe).parse(resolved(recipe, {})) == recipe


def test_a_value_out_of_bounds_anywhere_in_the_run_is_one_line_naming_the_field():
    run_config = {
        "ops": {
            "raw_corpus": {},
            "sft_checkpoint": {"config": {"optimizer": {"learning_rate": -1.0}}},
            "removal_within_bounds": {"config": {"anything": 1}},
        }
    }
    with pytest.raises(InvalidRecipeError) as caught:
        check_run_config(run_config)
    assert str(caught.value) == "SftRecipe.optimizer.learning_rate = -1.0: Input should be greater than 0"


def test_a_rule_that_spans_fields_is_checked_too():
    run_config = {"ops": {"pretrained_checkpoint": {"config": {"model": {"hidden_size": 65, "heads": 2}}}}}
    with pytest.raises(InvalidRecipeError, match="heads=2 must divide hidden_size=65"):
        check_run_config(run_config)


def test_what_a_later_asset_s_framework_cannot_express_is_told_at_once():
    run_config = {"ops": {"sft_checkpoint": {"config": {"backend": {"name": "llamafactory"}, "replay": 0.5}}}}
    with pytest.raises(InvalidRecipeError, match=r"SftRecipe\.replay = 0\.5: llamafactory"):
        check_run_config(run_config)


def test_run_config_of_a_recipe_is_read_back_as_that_recipe():
    tree = Tree(count=5, leaf=Leaf(weight=0.1))
    assert Tree.parse(run_config_of("tree", tree)["ops"]["tree"]["config"]) == tree
    check_run_config({})
