"""Recipes of the toy stages."""

from pydantic import Field

from codellm_dag.recipes import Recipe


class NumberRecipe(Recipe):
    numbers: dict[str, int] = Field(default_factory=lambda: {"python": 3, "rust": 5})

    def for_partition(self, key: str) -> "NumberRecipe":
        return NumberRecipe(numbers={key: self.numbers[key]})


class TotalRecipe(Recipe):
    plus: int = 0


class ScaledRecipe(Recipe):
    factor: float = Field(default=2.0, gt=0)
    steps: int = Field(default=3, ge=0)


class JudgedRecipe(Recipe):
    digits: int = 3
    benchmark: str = ""

    def for_partition(self, key: str) -> "JudgedRecipe":
        return self.model_copy(update={"benchmark": key.rpartition("|")[2]})
