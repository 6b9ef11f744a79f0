"""The recipe of the comparison of frameworks: what it refuses, and a backend's part of it."""

from __future__ import annotations

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.frameworks import FrameworkReportRecipe, FrameworksRecipe

LISTED = {"backends": [{"name": "deepspeed", "zero_stage": 3}, {"name": "swift"}], "training": {"epochs": 2}}


def test_a_partition_holds_its_backend_alone() -> None:
    recipe = FrameworksRecipe.parse(LISTED)
    part = recipe.for_partition("deepspeed")
    assert (part.training.backend.name, part.training.backend.zero_stage) == ("deepspeed", 3)
    assert part.training.epochs == 2
    assert part.chosen_modules() == ("codellm_dag.training.backends.deepspeed",)
    assert part.chosen_packages() == ("deepspeed",)
    alone = FrameworksRecipe.parse({**LISTED, "backends": LISTED["backends"][:1]})
    assert alone.for_partition("deepspeed") == part
    with pytest.raises(InvalidRecipeError, match="does not list trainer; listed: deepspeed, swift"):
        recipe.for_partition("trainer")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"backends": []}, "FrameworksRecipe.backends"),
        ({"backends": [{"name": "swift"}, {"name": "swift"}]}, "backends = swift, swift: each name once"),
        (
            {"backends": [{"name": "megatron"}]},
            "backends = megatron: used for pretraining only; allowed: tra",
        ),
        ({"training": {"backend": {"name": "verl"}}}, "training.backend = verl: backends says what trains"),
        ({"training": {"replay": 0.1}}, "training.replay = 0.1: must be 0 in a comparison"),
    ],
)
def test_what_cannot_be_compared_is_refused(values: dict, told: str) -> None:
    with pytest.raises(InvalidRecipeError, match=told):
        FrameworksRecipe.parse(values)


def test_a_report_names_each_backend_once() -> None:
    with pytest.raises(InvalidRecipeError, match=r"FrameworkReportRecipe\.backends .* each name once"):
        FrameworkReportRecipe.parse({"backends": ["swift", "swift"]})
