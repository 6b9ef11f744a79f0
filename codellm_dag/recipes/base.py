"""What a recipe is: a frozen, bounded, documented set of the knobs of one stage.

A recipe holds every knob that can change a result and nothing else; where and how fast the work runs is
`Runtime` (see `runtime.py`). This module does not read presets (`presets.py`) or derive Dagster's config
classes (`assets/config.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from codellm_dag.recipes.runtime import Runtime


class InvalidRecipeError(ValueError):
    """A recipe field has a name or value that is not allowed; the message names field, value and bounds."""


class Recipe(BaseModel):
    """Base of all recipes: immutable, no unknown fields, defaults checked as strictly as given values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Validate `values` and return the recipe.

        Raises InvalidRecipeError with one line per bad field: its dotted name, the value, what is allowed.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InvalidRecipeError(describe_validation_error(cls.__name__, error)) from error

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """A copy in which dotted fields are replaced, e.g. ``{"model.layers": "4"}``; revalidated whole.

        String values are read as YAML scalars, so what a command line or a partition key carries works.
        Raises InvalidRecipeError for an unknown field or a value out of bounds.
        """
        values = self.model_dump(mode="json")
        for dotted, value in changes.items():
            _replace(values, dotted, value, type(self).__name__)
        return type(self).parse(values)

    def check_runtime(self, runtime: Runtime) -> None:
        """Raise InvalidRecipeError if this recipe cannot run on what `runtime` gives; asked before launch."""
        del runtime

    def chosen_modules(self) -> tuple[str, ...]:
        """Modules whose code a stage reaches because of this recipe's values, beside those it imports.

        Each has a function ``refusals(recipe)``, which is asked before anything is launched, also where no
        PyTorch is installed: what of the recipe it cannot do, one line each that begins with the field.
        """
        return ()

    def chosen_packages(self) -> tuple[str, ...]:
        """Distributions whose versions count because of this recipe's values, beside the stage's own."""
        return ()

    def for_partition(self, key: str) -> Self:
        """The part of this recipe that concerns one partition of its asset; by default all of it."""
        del key
        return self


def _replace(values: dict[str, Any], dotted: str, value: Any, owner: str) -> None:
    *parents, last = dotted.split(".")
    node: Any = values
    for part in parents:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        allowed = ", ".join(sorted(node)) if isinstance(node, dict) else "a dotted path to a field"
        raise InvalidRecipeError(f"{owner} has no field {dotted!r}; allowed: {allowed}")
    node[last] = yaml.safe_load(value) if isinstance(value, str) else value


def describe_validation_error(owner: str, error: ValidationError) -> str:
    """One line per problem: ``TrainingRecipe.learning_rate = -1: Input should be greater than 0``.

    What a class of fields says of them together names field and value itself.
    """
    lines = []
    for problem in error.errors(include_url=False):
        field = ".".join([owner, *(str(part) for part in problem["loc"])])
        together = problem["type"] == "value_error" and isinstance(problem["input"], dict)
        value = "" if together or problem["type"] == "missing" else f" = {problem['input']!r}"
        lines.append(f"{field}{value}: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
