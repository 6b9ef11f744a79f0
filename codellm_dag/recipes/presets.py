"""Presets: named runs as YAML files in the shape of Dagster's run config, next to this module.

``laptop.yaml`` is both the file for ``dagster job execute -c`` and the source of the defaults that Dagster's
Launchpad shows. A preset names only what differs from the recipes' own defaults. The environment variable
CODELLM_PRESET names the preset (or the path of such a file) that gives the defaults; without it, laptop.

This module knows no stage: which recipe class belongs to which asset is `codellm_dag.stages.registry`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from codellm_dag.recipes.base import InvalidRecipeError, Recipe

PRESET_VARIABLE = "CODELLM_PRESET"
DEFAULT_PRESET = "laptop"
_FOLDER = Path(__file__).parent

R = TypeVar("R", bound=Recipe)


def preset_names() -> list[str]:
    """Names of the presets that come with the package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def current_preset() -> str:
    """The preset that gives the defaults: CODELLM_PRESET, or laptop."""
    return os.environ.get(PRESET_VARIABLE) or DEFAULT_PRESET


def preset_path(preset: str) -> Path:
    """The file of a preset, given by name or by the path of a YAML file.

    Raises InvalidRecipeError, naming the presets there are, if there is no such file.
    """
    path = Path(preset) if preset.endswith((".yaml", ".yml")) else _FOLDER / f"{preset}.yaml"
    if not path.is_file():
        raise InvalidRecipeError(
            f"preset {preset!r} does not exist; allowed: {', '.join(preset_names())}, or a YAML file's path"
        )
    return path


@cache
def run_config(preset: str) -> Mapping[str, Any]:
    """The preset as Dagster run config: ``{"ops": {asset: {"config": {…}}}, …}``. Do not change it.

    Raises InvalidRecipeError if the file is not a mapping of that shape.
    """
    path = preset_path(preset)
    loaded = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    ops = loaded.get("ops", {}) if isinstance(loaded, dict) else None
    if not isinstance(ops, dict):
        raise InvalidRecipeError(f"{path.name}: must be Dagster run config, 'ops: {{asset: {{config: …}}}}'")
    for asset, values in ops.items():
        if not isinstance(values, dict) or not isinstance(values.get("config", {}), dict):
            raise InvalidRecipeError(f"{path.name}: ops.{asset}.config must be a mapping of recipe fields")
    return loaded


def preset_recipe(asset: str, recipe_class: type[R], preset: str | None = None) -> R:
    """The recipe of an asset as the preset (by default the current one) has it.

    Raises InvalidRecipeError for an unknown preset, field or value out of bounds.
    """
    ops = run_config(preset or current_preset()).get("ops", {})
    return overlay(recipe_class(), ops.get(asset, {}).get("config", {}))


def overlay(recipe: R, values: Mapping[str, Any]) -> R:
    """`recipe` with nested `values` laid over it, as Dagster lays run config over its defaults.

    A field that is itself a recipe is overlaid field by field; anything else is replaced whole.
    Raises InvalidRecipeError for unknown fields and values out of bounds.
    """
    return type(recipe).parse(_overlaid(recipe, values))


def _overlaid(recipe: Recipe, values: Mapping[str, Any]) -> dict[str, Any]:
    merged = recipe.model_dump(mode="json")
    for name, value in values.items():
        nested = getattr(recipe, name, None)
        if isinstance(nested, Recipe) and isinstance(value, Mapping):
            merged[name] = _overlaid(nested, value)
        else:
            merged[name] = value
    return merged
