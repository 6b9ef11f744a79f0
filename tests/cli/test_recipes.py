"""``--recipe`` and ``--set``: checked whole before anything runs, and laid over the preset."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from codellm_dag.cli.app import app
from codellm_dag.cli.recipes import changed_fields, choose, flat_fields, last_choice, save_choice
from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.presets import preset_names
from codellm_dag.stages.registry import STAGES
from codellm_dag.store import Store
from codellm_dag.training.environments.framework import VARIABLE
from tests.cli.conftest import Cli

_PRESETS = Path(__file__).parent / "presets"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "nosuch.steps=3"], "there is no asset 'nosuch'; allowed: raw_corpus"),
        (["--set", "sft_checkpoint.learning_rate=0"], "Input should be greater than 0"),
        (
            ["--set", "sft_checkpoint.learning_rate=fast"],
            "learning_rate = 'fast': Input should be a valid number",
        ),
        (["--recipe", "nosuch"], "preset 'nosuch' does not exist; allowed: laptop, short"),
        (["--recipe", "/nosuch.yaml"], "preset '/nosuch.yaml' does not exist"),
    ],
)
def test_a_bad_choice_stops_the_demo_before_anything_runs(
    cli: Cli, store: Store, words: list[str], message: str
) -> None:
    answer = cli("demo", *words)
    assert (answer.code, answer.out) == (2, "")
    assert message in " ".join(answer.err.split())
    assert not store.work_root.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ops: {nosuch: {config: {steps: 1}}}", "ops.nosuch: there is no asset 'nosuch'"),
        ("ops: {sft_checkpoint: {config: {stepz: 1}}}", "stepz = 1: Extra inputs are not permitted"),
        ("ops: 3", "must be Dagster run config"),
        ("ops: {sft_checkpoint: {config: {steps: x}}}", "steps = 'x': Input should be a valid integer"),
    ],
)
def test_a_bad_preset_file(cli: Cli, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    answer = cli("demo", "--recipe", str(tmp_path / "own.yaml"))
    assert answer.code == 2
    assert message in " ".join(answer.err.split())


def test_a_store_that_cannot_be_written(cli: Cli, store: Store) -> None:
    store.work_root.touch()
    answer = cli("demo")
    assert answer.code == 1
    assert "cannot be written" in answer.err


@pytest.mark.parametrize("recipe", ["short", str(_PRESETS / "short.yaml")])
def test_run_config_lays_changes_over_the_preset(cli: Cli, recipe: str) -> None:
    del cli  # its toy stages and presets
    choice = choose(recipe, ["sft_checkpoint.learning_rate=0.2", "mixture.heldout_every=4"])
    assert choice.run_config()["ops"] == {
        "sft_checkpoint": {"config": {"steps": 4, "learning_rate": 0.2}},
        "mixture": {"config": {"heldout_every": 4}},
    }
    assert choose(recipe, None).run_config()["ops"] == {"sft_checkpoint": {"config": {"steps": 4}}}


def test_nested_fields_of_the_real_recipes() -> None:
    choice = choose("", ["pretrained_checkpoint.optimizer.learning_rate=0.002"])
    own = choice.run_config()["ops"]["pretrained_checkpoint"]["config"]["optimizer"]
    assert own["learning_rate"] == 0.002
    with pytest.raises(InvalidRecipeError, match="allowed: "):
        choose("", ["pretrained_checkpoint.optimizer.speed=3"])


@pytest.mark.parametrize("name", preset_names())
def test_every_real_preset_is_accepted(name: str) -> None:
    assert set(choose(name, None).run_config()["ops"]) <= STAGES.keys()


def test_what_a_backend_cannot_express_is_refused_with_the_choice() -> None:
    with pytest.raises(InvalidRecipeError, match="llamafactory: used for fine-tuning on messages only"):
        choose("", ["pretrained_checkpoint.backend.name=llamafactory"])
    with pytest.raises(InvalidRecipeError, match=r"^SftRecipe\.optimizer\.name = muon: fsdp2: Muon needs"):
        choose("", ["sft_checkpoint.backend.name=fsdp2", "sft_checkpoint.optimizer.name=muon"])


@pytest.mark.parametrize(
    ("name", "why"),
    [("llamafactory", "is not built on this machine"), ("megatron_swift", "needs transformer_engine")],
)
def test_a_demo_whose_framework_cannot_train_here_does_not_begin(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    monkeypatch.delenv("CODELLM_LAUNCHER", raising=False)
    words = [
        f"sft_checkpoint.{field}" for field in (f"backend.name={name}", "optimizer.name=adamw", "replay=0")
    ]
    options = [option for word in words for option in ("--set", word)]
    answer = CliRunner().invoke(app, ["demo", *options, "--store", str(tmp_path / "store")])
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert answer.stderr.startswith(f"error: sft_checkpoint.backend.name = {name}: ")
    assert why in answer.stderr
    assert not (tmp_path / "store").exists()


def test_the_last_choice_is_remembered(cli: Cli, store: Store) -> None:
    del cli
    assert last_choice(store, "", None) is None
    save_choice(store, choose("short", ["mixture.heldout_every=4"]))
    found = last_choice(store, "", None)
    assert found is not None
    assert found.text == "recipe short, mixture.heldout_every=4"
    given = last_choice(store, "laptop", None)
    assert given is not None
    assert given.text == "recipe laptop"


def test_changed_fields(cli: Cli) -> None:
    del cli
    assert changed_fields("sft_checkpoint", {"learning_rate": 0.1, "steps": 3}) == ({"steps": 3}, 2)
    assert changed_fields("nosuch", {"a": 1}) == ({"a": 1}, 1)


def test_flat_fields() -> None:
    values = {"a": {"b": 1}, "c": [1, 2], "d": [{"e": 3}]}
    assert flat_fields(values) == {"a.b": 1, "c": [1, 2], "d.0.e": 3}
    assert flat_fields(values, lists=False) == {"a.b": 1, "c": [1, 2], "d": [{"e": 3}]}
