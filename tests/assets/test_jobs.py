"""The job `corpora` on real sources, what stops it, and what stops `lifecycle` in its first second."""

from pathlib import Path

import dagster as dg
import pytest

from codellm_dag.definitions import defs
from codellm_dag.store import Store

CONFIG = {
    "raw_corpus": {
        "config": {
            "sources": [
                {"kind": "python_stdlib", "language": "python", "max_bytes": 200_000},
                {"kind": "package", "language": "rust", "package": "tokenizers", "max_bytes": 50_000},
            ]
        }
    },
    "benchmark_problems": {"config": {"microbench_problems": 4, "maximum_problems": 4}},
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store, with no fetched packages beside it."""
    monkeypatch.setenv("CODELLM_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("CODELLM_LAUNCHER", "inline")
    monkeypatch.setenv("CODELLM_PACKAGES", str(tmp_path / "none"))
    return Store(tmp_path / "store")


def run(**more: dict) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_job_def("corpora").execute_in_process(
            run_config={"ops": {**CONFIG, **more}}, instance=instance, raise_on_error=False
        )


def test_a_cleaning_that_removes_too_much_stops_the_run_before_the_mixture(store):
    refused = run(clean_corpus_removal_within_bounds={"config": {"total": 0.0}})
    assert not refused.success
    (check,) = refused.get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.blocking) == ("removal_within_bounds", False, True)
    assert check.description.startswith("python: total removed ")
    assert store.refs.artifact("clean_corpus", "python") is not None
    assert store.refs.artifact("mixture") is None

    accepted = run()
    assert accepted.success
    assert store.refs.artifact("mixture") is not None
    passed = {check.check_name: check.passed for check in accepted.get_asset_check_evaluations()}
    assert passed == {"removal_within_bounds": True, "is_whole": True}


def test_a_language_whose_package_was_not_fetched_is_left_out_and_said(store):
    result = run()
    assert result.success
    assert store.refs.artifact("raw_corpus", "rust") is None
    (whole,) = [
        event.step_materialization_data.materialization
        for event in result.all_events
        if event.is_step_materialization and event.step_key == "raw_corpus" and not event.partition
    ]
    assert str(whole.metadata["left out"].value).startswith("- **rust**: ")
    mixture = store.refs.artifact("mixture")
    assert mixture is not None
    assert list(store.manifest(mixture).inputs) == ["corpus/python"]


def test_a_wrong_value_of_the_last_stage_stops_the_life_cycle_before_the_first(store):
    config = {"rl_policy": {"config": {"optimiser": {"learning_rate": -1.0}}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def("lifecycle").execute_in_process(
            run_config={"ops": {**CONFIG, **config}}, instance=instance, raise_on_error=False
        )
    said = {
        event.step_failure_data.user_failure_data.description.partition(": ")[2]
        for event in result.all_events
        if event.is_step_failure
    }
    assert said == {"RlRecipe.optimiser.learning_rate = -1.0: Input should be greater than 0"}
    assert store.ledger.rows() == []


def test_a_launcher_that_does_not_exist_stops_the_run_before_the_first_asset(store, monkeypatch):
    monkeypatch.setenv("CODELLM_LAUNCHER", "slurm")
    result = run()
    assert not result.success
    said = [str(event.event_specific_data) for event in result.all_events if event.is_failure]
    assert any("does not exist" in text and "inline, local, kubernetes" in text for text in said)
    assert store.ledger.rows() == []
