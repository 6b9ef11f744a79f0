"""From a recipe (Pydantic) to the config schema that Dagster's Launchpad shows, and back.

`config_schema` derives the schema, so that no knob is declared twice: names, types, choices, descriptions
with bounds, and defaults from the current preset. Dagster's own types cannot hold bounds or rules that span
fields; those are checked by the recipe itself, of every asset in the run, before the first stage is
launched (`check_run_config`).
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import dagster as dg
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic.fields import FieldInfo

from codellm_dag.launch.identity import check_recipe
from codellm_dag.recipes import Recipe
from codellm_dag.recipes.presets import overlay, preset_recipe
from codellm_dag.stages.registry import STAGES, Stage

_SCALARS: dict[Any, Any] = {bool: dg.Bool, int: dg.Int, float: dg.Float, str: dg.String}
_BOUND_SIGNS = ((Ge, "ge", "≥"), (Gt, "gt", ">"), (Le, "le", "≤"), (Lt, "lt", "<"))
_LENGTHS = ((MinLen, "min_length", "at least"), (MaxLen, "max_length", "at most"))


def asset_recipe_default(stage: Stage) -> Recipe:
    """The recipe that a stage's asset has when a run says nothing: the current preset's.

    Raises InvalidRecipeError if the preset holds a field or a value that is not allowed.
    """
    return preset_recipe(stage.name, stage.recipe_class())


def config_schema(recipe: Recipe) -> dict[str, dg.Field]:
    """The Dagster config schema of `recipe`'s class, with `recipe`'s values as defaults.

    Literals and enums become enums of their *values*, nested recipes become shapes whose fields keep their
    own defaults (so a run names only what it changes), lists and tuples become arrays, and ``X | None`` is
    noneable. Raises TypeError, naming the field, for a type that Dagster's config cannot hold.
    """
    dumped = recipe.model_dump(mode="json")
    owner = type(recipe).__name__
    fields = {}
    for name, info in type(recipe).model_fields.items():
        value = getattr(recipe, name)
        inner = value if isinstance(value, Recipe) else None
        config_type = _config_type(info.annotation, f"{owner}.{name}", inner)
        # A shape's default follows from its fields' defaults; giving one would freeze the parts not named.
        default = {} if inner is not None else {"default_value": dumped[name], "is_required": False}
        fields[name] = dg.Field(config_type, description=_describe(info), **default)
    return fields


def check_run_config(run_config: Mapping[str, Any]) -> None:
    """Check the recipe of every asset that a run configures, whether or not its turn has come.

    Raises InvalidRecipeError with one line per bad field, so that a wrong learning rate of the last stage
    stops the run in its first second and not after the stages before it; likewise what the chosen training
    framework cannot express.
    """
    for asset, values in (run_config.get("ops") or {}).items():
        if asset in STAGES and isinstance(values, Mapping):
            recipe = overlay(asset_recipe_default(STAGES[asset]), values.get("config") or {})
            check_recipe(STAGES[asset], recipe)


def run_config_of(asset: str, recipe: Recipe) -> dict[str, Any]:
    """The run config that gives `asset` this recipe, for callers in Python."""
    return {"ops": {asset: {"config": recipe.model_dump(mode="json")}}}


def _config_type(annotation: Any, field: str, value: Recipe | None = None) -> Any:
    if get_origin(annotation) is Annotated:
        return _config_type(get_args(annotation)[0], field, value)
    if annotation in _SCALARS:
        return _SCALARS[annotation]
    if get_origin(annotation) is Literal:
        return _enum(field, get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _enum(field, [member.value for member in annotation])
    if isinstance(annotation, type) and issubclass(annotation, Recipe):
        return dg.Shape(config_schema(value) if value is not None else _element_schema(annotation))
    return _container_type(annotation, field, value)


def _container_type(annotation: Any, field: str, value: Recipe | None) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (list, tuple, set, frozenset, Sequence):
        members = {member for member in arguments if member is not Ellipsis}
        if len(members) == 1:
            return dg.Array(_config_type(members.pop(), field))
    if origin in (dict, Mapping) and arguments[0] is str:
        return dg.Map(str, _config_type(arguments[1], field))
    if origin in (Union, types.UnionType):
        members = {member for member in arguments if member is not type(None)}
        if len(members) == 1 and len(arguments) == 2:
            return dg.Noneable(_config_type(members.pop(), field, value))
    raise TypeError(
        f"{field}: Dagster's config cannot hold {annotation}; use a scalar, Literal, enum, recipe, list, "
        "tuple of one type, dict[str, …] or an optional one of these"
    )


def _element_schema(recipe_class: type[Recipe]) -> dict[str, dg.Field]:
    """Schema of a recipe inside a list or mapping: defaults are its class's; the others are required."""
    fields = {}
    for name, info in recipe_class.model_fields.items():
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        inner = default if isinstance(default, Recipe) else None
        config_type = _config_type(info.annotation, f"{recipe_class.__name__}.{name}", inner)
        given: dict[str, Any] = {"is_required": True} if info.is_required() else {}
        if not info.is_required() and inner is None:
            given = {"default_value": _plain(default), "is_required": False}
        fields[name] = dg.Field(config_type, description=_describe(info), **given)
    return fields


def _plain(value: Any) -> Any:
    """A default as plain YAML values."""
    if isinstance(value, Recipe):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(member) for member in value]
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    return value.value if isinstance(value, Enum) else value


def _enum(field: str, values: Sequence[Any]) -> Any:
    kinds = {type(value) for value in values}
    if kinds != {str}:  # choices that are not strings: the recipe checks them
        if len(kinds) > 1:
            raise TypeError(f"{field}: choices {values} are of several types; Dagster's config needs one")
        return _SCALARS[kinds.pop()]
    # The type's name is all that Dagster's message about a wrong value shows, so it lists the allowed ones.
    return dg.Enum(f"one of: {', '.join(values)};", [dg.EnumValue(value) for value in values])


def _describe(info: FieldInfo) -> str:
    """The field's description with its bounds, which Dagster's types cannot carry."""
    bounds = [
        f"{sign} {getattr(constraint, attribute)}"
        for constraint in info.metadata
        for kind, attribute, sign in _BOUND_SIGNS
        if isinstance(constraint, kind)
    ] + [
        f"{words} {getattr(constraint, attribute)} items"
        for constraint in info.metadata
        for kind, attribute, words in _LENGTHS
        if isinstance(constraint, kind)
    ]
    text = (info.description or "").strip()
    return f"{text} Allowed: {', '.join(bounds)}.".strip() if bounds else text
