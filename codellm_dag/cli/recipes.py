"""Recipes on the command line: ``--recipe`` with ``--set``, and which fields of a recipe were chosen."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from codellm_dag.cli.session import state_folder
from codellm_dag.launch.identity import check_recipe
from codellm_dag.lineage.why import RecipeOf
from codellm_dag.recipes import InvalidRecipeError, Recipe
from codellm_dag.recipes.backends import Backend
from codellm_dag.recipes.corpora import RawCorpusRecipe
from codellm_dag.recipes.presets import DEFAULT_PRESET, preset_path, preset_recipe, run_config
from codellm_dag.stages import registry
from codellm_dag.store import Manifest, Ref, Store
from codellm_dag.training.environments.available import check_available

_LAST = "demo.json"

RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="A preset, or a YAML file in Dagster's run-config shape.",
        show_default=DEFAULT_PRESET,
    ),
]
LastRecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help="A preset, or a YAML file in Dagster's run-config shape.",
        show_default="that of the last demo",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="ASSET.FIELD=VALUE", help="Change one field; repeatable.", show_default=False
    ),
]


@dataclass(frozen=True)
class Choice:
    """A preset and changes to it, checked: every recipe is built before anything is launched."""

    recipe: str = DEFAULT_PRESET
    changes: tuple[str, ...] = ()
    by_asset: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The choice in words: ``recipe laptop, sft_checkpoint.epochs=2``."""
        return ", ".join([f"recipe {self.recipe}", *self.changes])

    def recipe_of(self, asset: str) -> Recipe:
        """The whole recipe of an asset. Raises InvalidRecipeError."""
        stage = registry.STAGES[asset]
        recipe = preset_recipe(asset, stage.recipe_class(), self.recipe)
        return recipe.with_changes(self.by_asset.get(asset, {}))

    def run_config(self) -> dict[str, Any]:
        """Dagster's run config: the preset's, with the changed fields laid over it."""
        config = copy.deepcopy(dict(run_config(self.recipe)))
        config.setdefault("ops", {})
        for asset, changes in self.by_asset.items():
            values = self.recipe_of(asset).model_dump(mode="json")
            own = config["ops"].setdefault(asset, {}).setdefault("config", {})
            for dotted in changes:
                _put(own, dotted.split("."), values)
        return config


def choose(recipe: str, changes: list[str] | None) -> Choice:
    """Check ``--recipe`` and every ``--set``.

    Raises InvalidRecipeError that names the asset, field or value and lists what is allowed.
    """
    by_asset: dict[str, dict[str, str]] = {}
    for change in changes or ():
        asset, name, value = _parse(change)
        if name in by_asset.setdefault(asset, {}):
            raise InvalidRecipeError(f"--set {asset}.{name} is given twice; give it once")
        by_asset[asset][name] = value
    name = recipe or DEFAULT_PRESET
    path = preset_path(name)
    choice = Choice(
        str(path.absolute()) if name.endswith((".yaml", ".yml")) else name, tuple(changes or ()), by_asset
    )
    for asset in run_config(choice.recipe).get("ops") or {}:
        _known_asset(asset, f"{path.name}: ops.{asset}")
    for asset, stage in registry.STAGES.items():
        check_recipe(stage, choice.recipe_of(asset))
    return choice


def check_backends(choice: Choice) -> None:
    """Raise InvalidRecipeError where a stage's training framework cannot train on this machine."""
    for asset in registry.STAGES:
        if isinstance(backend := getattr(choice.recipe_of(asset), "backend", None), Backend):
            check_available(backend, f"{asset}.backend.name", "choose another backend")


def _parse(change: str) -> tuple[str, str, str]:
    target, equals, value = change.partition("=")
    asset, dot, name = target.strip().partition(".")
    if not equals or not dot or not name:
        raise InvalidRecipeError(
            f"--set {change!r} is not asset.field=value; e.g. "
            "--set pretrained_checkpoint.optimizer.learning_rate=0.002"
        )
    _known_asset(asset, f"--set {change}")
    return asset, name, value


def _known_asset(asset: str, where: str) -> None:
    if asset not in registry.STAGES:
        raise InvalidRecipeError(
            f"{where}: there is no asset {asset!r}; allowed: {', '.join(registry.STAGES)}"
        )


def _put(own: dict[str, Any], path: list[str], values: Mapping[str, Any]) -> None:
    """Copy one field of `values` to the same place in `own`."""
    name, *rest = path
    if rest:
        _put(own.setdefault(name, {}), rest, values[name])
    else:
        own[name] = values[name]


def save_choice(store: Store, choice: Choice) -> None:
    """Remember the choice of a demo, for `why`."""
    folder = state_folder(store)
    folder.mkdir(parents=True, exist_ok=True)
    values = {"recipe": choice.recipe, "set": list(choice.changes)}
    (folder / _LAST).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def last_choice(store: Store, recipe: str, changes: list[str] | None) -> Choice | None:
    """The choice that is given, else that of the last demo; None if neither is there or it fits no more."""
    if recipe or changes:
        return choose(recipe, changes)
    try:
        values = json.loads((state_folder(store) / _LAST).read_text(encoding="utf-8"))
        return choose(values["recipe"], values["set"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def recipes_now(choice: Choice) -> RecipeOf:
    """The recipe that an asset partition would have in a demo with this choice."""

    def recipe_of(ref: Ref, manifest: Manifest) -> Recipe:
        recipe = choice.recipe_of(manifest.stage)
        key = ref.partition or ""
        if isinstance(recipe, RawCorpusRecipe):
            from codellm_dag.corpora.sources import resolve

            return resolve(recipe, key)
        if "=" in key and "|" not in key:  # a trial: its key is the change
            from assets.partitions import trial_recipe

            return trial_recipe(recipe, key)
        return recipe.for_partition(key) if key else recipe

    return recipe_of


def changed_fields(stage: str, recipe: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The dotted fields of a recorded recipe that differ from their defaults; and how many fields there are.

    A list counts as one field. All fields differ if the stage is not in this code any more or has no
    defaults.
    """
    fields = flat_fields(recipe, lists=False)
    try:
        default = registry.STAGES[stage].recipe_class()()
    except (KeyError, ValidationError):
        return fields, len(fields)
    defaults = flat_fields(default.model_dump(mode="json"), lists=False)
    changed = {
        name: value for name, value in fields.items() if name not in defaults or defaults[name] != value
    }
    return changed, len(fields)


def flat_fields(values: Any, prefix: str = "", *, lists: bool = True) -> dict[str, Any]:
    """Dotted names of the innermost values; with `lists` also of the recipes that lists hold."""
    if isinstance(values, Mapping):
        items = dict(values)
    elif lists and isinstance(values, list) and any(isinstance(item, Mapping) for item in values):
        items = dict(enumerate(values))
    else:
        return {prefix: values}
    found: dict[str, Any] = {}
    for name, value in items.items():
        found |= flat_fields(value, f"{prefix}.{name}" if prefix else str(name), lists=lists)
    return found
