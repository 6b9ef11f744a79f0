"""What a computation is: the payload that is hashed into its fingerprint, checked before it is hashed."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from codellm_dag.launch.errors import InvalidRequestError
from codellm_dag.recipes.base import InvalidRecipeError, Recipe
from codellm_dag.stages.environment import version_of
from codellm_dag.stages.registry import STAGES, Stage
from codellm_dag.store import Artifact, CodeDigest, code_digest, digest

PAYLOAD_VERSION = 1


@dataclass(frozen=True)
class Identity:
    """A computation: `payload` is exactly what was hashed to `fingerprint`."""

    stage: Stage
    recipe: Recipe
    inputs: Mapping[str, Artifact]
    payload: Mapping[str, Any]
    fingerprint: str
    code: CodeDigest


def identify(stage: Stage | str, recipe: Recipe, inputs: Mapping[str, Artifact]) -> Identity:
    """Check that stage, recipe and inputs fit, and work out the fingerprint.

    The payload holds the stage's name, the code digest, the versions of its declared packages, the recipe,
    and each input's *content digest* by slot: who computed an input, and how, does not matter. Raises
    InvalidRequestError, InvalidRecipeError.
    """
    stage = resolve_stage(stage)
    check_recipe(stage, recipe)
    check_slots(stage, inputs)
    code = code_digest(*stage.roots(recipe))
    payload = {
        "version": PAYLOAD_VERSION,
        "stage": stage.name,
        "code": code.digest,
        "packages": {name: _version(stage.name, name) for name in stage.packages_for(recipe)},
        "recipe": recipe_values(recipe),
        "inputs": {slot: inputs[slot].content_digest for slot in sorted(inputs)},
    }
    return Identity(stage, recipe, dict(inputs), payload, digest(payload), code)


def resolve_stage(stage: Stage | str) -> Stage:
    """A stage by name, or itself. Raises InvalidRequestError with the known names."""
    if isinstance(stage, Stage):
        return stage
    if stage not in STAGES:
        raise InvalidRequestError(f"there is no stage {stage!r}; allowed: {', '.join(STAGES)}")
    return STAGES[stage]


def check_recipe(stage: Stage, recipe: Recipe) -> None:
    """Raise InvalidRequestError unless `recipe` is of the stage's class.

    Raises InvalidRecipeError, one line a field, where a module that it chooses cannot do what it asks for.
    """
    wanted = stage.recipe_class()
    if not isinstance(recipe, wanted):
        raise InvalidRequestError(
            f"stage {stage.name!r} takes a {wanted.__name__}, not a {type(recipe).__name__}"
        )
    training = getattr(recipe, "training", None)  # of a study: the part that chooses the modules
    asked, where = (training, "training.") if isinstance(training, Recipe) else (recipe, "")
    lines = [
        line for name in recipe.chosen_modules() for line in importlib.import_module(name).refusals(asked)
    ]
    if lines:
        raise InvalidRecipeError("\n".join(f"{wanted.__name__}.{where}{line}" for line in lines))


def check_slots(stage: Stage, inputs: Mapping[str, Artifact | None]) -> None:
    """Raise InvalidRequestError unless every input has a slot of its kind and no required slot is empty."""
    for slot, artifact in inputs.items():
        kinds = _kinds_of(stage, slot)
        if artifact is not None and artifact.kind not in kinds.split("|"):
            raise InvalidRequestError(
                f"stage {stage.name!r}: input {slot} is the {artifact.kind} {artifact.label!r}; "
                f"allowed: {kinds}"
            )
    for slot, kinds in stage.slots.items():
        if not slot.endswith(("/*", "?")) and slot not in inputs:
            raise InvalidRequestError(f"stage {stage.name!r} has no input {slot!r}; give it a {kinds}")


def _kinds_of(stage: Stage, slot: str) -> str:
    base, _, key = slot.partition("/")
    for candidate in (f"{base}/*",) if key else (slot, f"{slot}?"):
        if candidate in stage.slots:
            return stage.slots[candidate]
    allowed = ", ".join(stage.slots) or "none"
    raise InvalidRequestError(f"stage {stage.name!r} has no slot for input {slot!r}; allowed: {allowed}")


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain JSON values. Raises InvalidRecipeError for a set, whose order would be chance."""
    _refuse_sets(recipe.model_dump(mode="python"), type(recipe).__name__)
    return recipe.model_dump(mode="json")


def _refuse_sets(value: Any, where: str) -> None:
    if isinstance(value, Set) and not isinstance(value, Mapping):
        raise InvalidRecipeError(f"{where} is a set, which has no order to hash; declare it as a tuple")
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if _is_sequence(value) else ()
    for key, item in items:
        _refuse_sets(item, f"{where}.{key}")


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple))


@lru_cache(maxsize=256)
def _version(stage: str, package: str) -> str:
    try:
        return version_of(package)
    except importlib.metadata.PackageNotFoundError:
        raise InvalidRequestError(
            f"stage {stage!r} needs the package {package!r}, which is not installed; run `make install`"
        ) from None
