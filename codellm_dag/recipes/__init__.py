"""Typed recipes (one module per room) and YAML presets (one per named run)."""

from codellm_dag.recipes.base import InvalidRecipeError, Recipe
from codellm_dag.recipes.runtime import Runtime

__all__ = ["InvalidRecipeError", "Recipe", "Runtime"]
