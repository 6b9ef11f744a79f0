"""The comparison of frameworks as assets: refused before anything is launched, and its plot."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from assets.checkpoints import examples_of
from assets.plots import overlaid
from codellm_dag.definitions import defs
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.store import Artifact, Store
from codellm_dag.training.environments.framework import VARIABLE
from tests.assets.conftest import failure


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store that names the inputs, which are never read here."""
    monkeypatch.setenv("CODELLM_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("CODELLM_LAUNCHER", "inline")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environments"))
    store = Store(tmp_path / "store")
    for name, kind in (("pretrained_checkpoint", "checkpoint"), ("sft_data", "corpus")):
        store.refs.set(name, None, reference(name, kind))
    return store


def reference(name: str, kind: str) -> Artifact:
    digest = "0" * 64
    return Artifact(kind=kind, name=name, stage=name, fingerprint=digest, content_digest=digest)


def run(**config: object) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_job_def("framework_comparison").execute_in_process(
            run_config={"ops": {"framework_checkpoint": {"config": config}}},
            instance=instance,
            raise_on_error=False,
        )


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (
            {"backends": [{"name": "trainer"}, {"name": "swift"}]},
            "framework_checkpoint: backends = swift: the environment of swift",
        ),
        (
            {"backends": [{"name": "trainer"}], "training": {"optimizer": {"learning_rate": -1.0}}},
            "FrameworksRecipe.training.optimizer.learning_rate = -1.0",
        ),
        (
            {
                "backends": [{"name": "trainer"}, {"name": "swift"}],
                "training": {"optimizer": {"name": "muon"}},
            },
            "FrameworksRecipe.training.optimizer.name = muon: swift has another one; allowed: adamw",
        ),
    ],
)
def test_what_cannot_run_is_refused_before_the_first_framework(store: Store, config: dict, told: str) -> None:
    assert told in failure(run(**config))
    assert store.ledger.rows() == []


def test_a_dataset_is_learnt_from_in_place_of_sft_data(store: Store) -> None:
    config = {"backends": [{"name": "trainer"}], "training": {"data": "mine"}}
    told = "instruction_data has no partition 'mine' yet (there: none)"
    assert told in failure(run(**config)), "sft_data was there"
    store.refs.set("instruction_data", "mine", reference("instruction_data", "corpus"))
    assert "'pretrained_checkpoint' (000000000000), is not whole" in failure(run(**config))
    assert store.ledger.rows() == []


def test_which_examples_a_fine_tuning_learns_from() -> None:
    made, mine = reference("sft_data", "corpus"), reference("instruction_data", "corpus")
    assert examples_of(SftRecipe(data="mine"), made, {"mine": mine}) is mine
    assert examples_of(SftRecipe(data="mine"), None, {"mine": mine}) is mine
    assert examples_of(SftRecipe(), made, {"mine": mine}) is made
    with pytest.raises(dg.Failure, match="sft_data, which was never made"):
        examples_of(SftRecipe(), None, {"mine": mine})


def test_all_losses_are_on_one_plot() -> None:
    plot = overlaid("loss", {"a": [(1, 4.0), (2, 2.0)], "b": [(1, 3.0), (3, 1.0)], "empty": []})
    assert plot is not None
    assert plot.count("<polyline") == 2
    assert "a 2" in plot
    assert "b 1" in plot
    assert overlaid("loss", {"a": []}) is None
