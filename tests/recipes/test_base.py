"""What is said of fields that are refused: one line each, with name, value and what is allowed."""

from __future__ import annotations

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.training import SftRecipe


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"epochs": -1}, "SftRecipe.epochs = -1: Input should be greater than 0"),
        ({"epochs": {"a": 1}}, "SftRecipe.epochs = {'a': 1}: Input should be a valid number"),
        ({"backend": {"nam": "fsdp2"}}, "SftRecipe.backend.nam = 'fsdp2': Extra inputs are not permitted"),
        (  # of two fields together: no dictionary, and no class of errors
            {"backend": {"name": "trainer", "zero_stage": 2}},
            "SftRecipe.backend: backend.zero_stage = 2: trainer cannot express it; allowed: 0, or "
            "backend.name one of deepspeed, megatron_deepspeed, colossalai",
        ),
    ],
)
def test_one_line_names_field_value_and_what_is_allowed(values: dict, told: str) -> None:
    with pytest.raises(InvalidRecipeError) as refused:
        SftRecipe.parse(values)
    assert str(refused.value) == told
