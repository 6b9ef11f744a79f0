"""The partitions of the assets, and how their keys are read.

language: the seven languages. benchmark: what a model is judged on. framework: a backend that fine-tunes.
trial: one point of an experiment; its key *is* the change, "base" for the recipe as configured, else
``learning_rate=0.003,epochs=2`` (dotted fields of the recipe, values as YAML). dataset: the names in the
recipe of `instruction_data`. model: "pretrained", "sft", "rl", or ``sft@<trial>`` and ``rl@<trial>``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import dagster as dg

from codellm_dag.recipes import InvalidRecipeError, Recipe
from codellm_dag.recipes.corpora import LANGUAGES as LANGUAGE_KEYS
from codellm_dag.recipes.evaluation import BENCHMARKS as EVALUATION_KEYS
from codellm_dag.recipes.frameworks import FINE_TUNING
from codellm_dag.recipes.problems import BENCHMARKS as BENCHMARK_KEYS

BASE_TRIAL = "base"

LANGUAGES = dg.StaticPartitionsDefinition(list(LANGUAGE_KEYS))
BENCHMARKS = dg.StaticPartitionsDefinition(list(BENCHMARK_KEYS))
EVALUATIONS = dg.StaticPartitionsDefinition(list(EVALUATION_KEYS))
FRAMEWORKS = dg.StaticPartitionsDefinition(list(FINE_TUNING))
TRIALS = dg.DynamicPartitionsDefinition(name="trial")
MODELS = dg.DynamicPartitionsDefinition(name="model")
DATASETS = dg.DynamicPartitionsDefinition(name="dataset")
MODEL_EVALUATIONS = dg.MultiPartitionsDefinition({"model": MODELS, "benchmark": EVALUATIONS})

R = TypeVar("R", bound=Recipe)


def trial_recipe(recipe: R, trial: str) -> R:
    """`recipe` with the changes that a trial's key names; "base" changes nothing.

    Raises InvalidRecipeError if the key is not ``field=value,…``, or names an unknown field or a value out of
    bounds.
    """
    return recipe.with_changes(trial_changes(trial))


def trial_changes(trial: str) -> dict[str, str]:
    """The changes a trial's key names: ``"a.b=1,c=[2,3]"`` is ``{"a.b": "1", "c": "[2,3]"}``.

    Commas inside brackets do not separate. Raises InvalidRecipeError for a key of another form.
    """
    if trial == BASE_TRIAL:
        return {}
    changes: dict[str, str] = {}
    for part in _split_outside_brackets(trial):
        field, equals, value = part.partition("=")
        if not equals or not field.strip() or not value.strip() or field.strip() in changes:
            raise InvalidRecipeError(
                f"trial {trial!r}: {part!r} is not field=value, or names a field twice; allowed: "
                f"{BASE_TRIAL!r}, or changes such as 'optimizer.learning_rate=0.003,epochs=2'"
            )
        changes[field.strip()] = value.strip()
    return changes


def _split_outside_brackets(text: str) -> list[str]:
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def model_key(method: str, trial: str) -> str:
    """The model that `method` ("sft" or "rl") makes in a trial: ``sft``, or ``sft@<trial>``."""
    return method if trial == BASE_TRIAL else f"{method}@{trial}"


def model_parts(model: str) -> tuple[str, str]:
    """Method and trial of a model's key: ``"sft@epochs=2"`` is ``("sft", "epochs=2")``."""
    method, _, trial = model.partition("@")
    return method, trial or BASE_TRIAL


def register_trials(instance: dg.DagsterInstance, trials: Iterable[str]) -> None:
    """Make trials known to Dagster."""
    _add(instance, TRIALS, list(trials))


def register_datasets(instance: dg.DagsterInstance, datasets: Iterable[str]) -> None:
    """Make datasets known to Dagster."""
    _add(instance, DATASETS, list(datasets))


def register_models(instance: dg.DagsterInstance, models: Iterable[str]) -> None:
    """Make models known to Dagster, so that they can be evaluated from the UI."""
    _add(instance, MODELS, list(models))


def _add(instance: dg.DagsterInstance, partitions: dg.DynamicPartitionsDefinition, keys: list[str]) -> None:
    name = partitions.name or ""
    missing = [key for key in dict.fromkeys(keys) if not instance.has_dynamic_partition(name, key)]
    try:
        if missing:
            instance.add_dynamic_partitions(name, missing)
    except Exception:  # the storage's own kind of "already there": another run was faster
        if not all(instance.has_dynamic_partition(name, key) for key in missing):
            raise
