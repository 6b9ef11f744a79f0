"""A recipe that chooses a module, as training recipes choose a backend, and that module at once."""

from __future__ import annotations

from codellm_dag.recipes.base import InvalidRecipeError, Recipe
from codellm_dag.recipes.runtime import Runtime


class ChoosingRecipe(Recipe):
    """Its stage reaches this module because of its value."""

    depth: int = 1

    def check_runtime(self, runtime: Runtime) -> None:
        if runtime.threads < self.depth:
            raise InvalidRecipeError(f"ChoosingRecipe.depth = {self.depth}: needs as many threads")

    def chosen_modules(self) -> tuple[str, ...]:
        return (__name__,)


def refusals(recipe: ChoosingRecipe) -> list[str]:
    """At most two."""
    return [f"depth = {recipe.depth}: too deep; allowed: 1, 2"] if recipe.depth > 2 else []
