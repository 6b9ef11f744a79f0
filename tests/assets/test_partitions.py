"""Partition keys: trials as changes, models, and the store's names of evaluations."""

import dagster as dg
import pytest
from pydantic import Field

from assets.partitions import (
    BENCHMARKS,
    LANGUAGES,
    MODEL_EVALUATIONS,
    model_key,
    model_parts,
    register_models,
    register_trials,
    trial_changes,
    trial_recipe,
)
from codellm_dag.recipes import InvalidRecipeError, Recipe
from resources.keys import dagster_key, store_key


class Inner(Recipe):
    learning_rate: float = Field(default=0.1, gt=0)


class Outer(Recipe):
    inner: Inner = Field(default_factory=Inner)
    epochs: float = 1.0
    ids: list[int] = Field(default_factory=list)


def test_the_base_trial_changes_nothing():
    assert trial_recipe(Outer(epochs=3), "base") == Outer(epochs=3)


def test_a_trial_key_is_its_changes():
    changed = trial_recipe(Outer(), "inner.learning_rate=3e-3, epochs=2,ids=[1,2]")
    assert changed == Outer(inner=Inner(learning_rate=0.003), epochs=2, ids=[1, 2])


@pytest.mark.parametrize("key", ["", "epochs", "epochs=", "=2", "epochs=1,epochs=2", "epochs=1,"])
def test_a_malformed_trial_key_is_refused_with_an_example(key):
    with pytest.raises(InvalidRecipeError, match=r"allowed: 'base', or changes such as"):
        trial_changes(key)


def test_an_unknown_field_names_the_fields_there_are():
    with pytest.raises(InvalidRecipeError, match=r"no field 'epoch'; allowed: epochs, ids, inner"):
        trial_recipe(Outer(), "epoch=2")


def test_a_value_out_of_bounds_is_named():
    with pytest.raises(InvalidRecipeError, match=r"Outer\.inner\.learning_rate = -1"):
        trial_recipe(Outer(), "inner.learning_rate=-1")


@pytest.mark.parametrize(
    ("method", "trial", "model"),
    [("sft", "base", "sft"), ("rl", "a=1", "rl@a=1"), ("pretrained", "base", "pretrained")],
)
def test_models_are_methods_in_trials(method, trial, model):
    assert model_key(method, trial) == model
    assert model_parts(model) == (method, trial)


def test_dagster_orders_the_parts_of_an_evaluation_by_dimension_and_the_store_by_model():
    key = dagster_key(MODEL_EVALUATIONS, "sft@a=1|humaneval")
    assert str(key) == "humaneval|sft@a=1"
    assert store_key(key) == "sft@a=1|humaneval"
    assert (dagster_key(LANGUAGES, "rust"), store_key("rust")) == ("rust", "rust")


def test_the_static_partitions():
    assert list(LANGUAGES.get_partition_keys()) == [
        "python", "java", "javascript", "typescript", "csharp", "go", "rust",
    ]  # fmt: skip
    assert list(BENCHMARKS.get_partition_keys()) == ["humaneval", "microbench"]


def test_trials_and_their_models_become_known_to_dagster_once():
    with dg.DagsterInstance.ephemeral() as instance:
        register_trials(instance, ["base", "epochs=2"])
        register_trials(instance, ["base"])
        register_models(instance, ["sft", "sft@epochs=2"])
        assert list(instance.get_dynamic_partitions("trial")) == ["base", "epochs=2"]
        assert list(instance.get_dynamic_partitions("model")) == ["sft", "sft@epochs=2"]
