"""The job `instructions` on real sources, what stops it, and `sft_data` that mixes in what it made."""

from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from codellm_dag.definitions import defs
from codellm_dag.store import Store

CORPORA = {
    "raw_corpus": {
        "config": {
            "sources": [
                {
                    "kind": "python_stdlib",
                    "language": "python",
                    "include": ["statistics.py", "http/cookiejar.py", "urllib/parse.py", "textwrap.py"],
                }
            ]
        }
    },
    "clean_corpus": {"config": {"steps": ["licence", "quality"]}},
    "benchmark_problems": {"config": {"microbench_problems": 4, "maximum_problems": 4}},
}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("CODELLM_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("CODELLM_LAUNCHER", "inline")
    return Store(tmp_path / "store")


def run(job: str, assets: list[str] | None = None, **config: dict) -> dg.ExecuteInProcessResult:
    keys = [dg.AssetKey(name) for name in assets] if assets else None
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_job_def(job).execute_in_process(
            run_config={"ops": config}, instance=instance, raise_on_error=False, asset_selection=keys
        )


def said(result: dg.ExecuteInProcessResult) -> str:
    return "\n".join(
        str(event.step_failure_data.user_failure_data.description)
        for event in result.all_events
        if event.is_step_failure and event.step_failure_data.user_failure_data
    )


def examples(store: Store, asset: str) -> list[dict]:
    artifact = store.refs.artifact(asset)
    assert artifact is not None
    return pq.read_table(store.local_path(artifact) / "train.parquet").to_pylist()


def test_from_the_corpus_to_chat_examples_of_three_sources(store: Store) -> None:
    assert run("corpora", **CORPORA).success
    plain = {"sft_data": {"config": {"examples": 20}}}
    assert run("post_train", ["sft_data"], **plain).success
    alone = store.refs.artifact("sft_data")

    refused = run("post_train", ["sft_data"], sft_data={"config": {"others": [{"source": "edit_sequences"}]}})
    assert "edit_sequences, which was never made; materialize edit_sequences first" in said(refused)

    made = run("instructions")
    assert made.success, said(made)
    checks = {check.asset_key.to_user_string(): check.passed for check in made.get_asset_check_evaluations()}
    assert checks == {"doctest_functions": True, "executed_examples": True, "edit_sequences": True}
    functions = {row["problem_id"] for row in examples(store, "doctest_functions")}
    assert any(name.endswith("statistics.py:median_high") for name in functions)
    assert {row["problem_id"] for row in examples(store, "executed_examples")} == functions

    assert run("post_train", ["sft_data"], **plain).success
    again = store.refs.artifact("sft_data")
    assert again == alone, "what is there to be mixed in changes nothing until the recipe names it"

    others = [{"source": "doctest_functions"}, {"source": "edit_sequences", "examples": 10}]
    assert run("post_train", ["sft_data"], sft_data={"config": {"examples": 20, "others": others}}).success
    mixed = [row["template"] for row in examples(store, "sft_data")]
    assert mixed.count("doctest_functions") == len(functions)
    assert mixed.count("edit_sequences") == 10
    assert len(mixed) == 20 + len(functions) + 10
    artifact = store.refs.artifact("sft_data")
    assert artifact is not None
    inputs = store.manifest(artifact).inputs
    assert [name for name in inputs if name.startswith("examples/")] == [
        "examples/doctest_functions",
        "examples/edit_sequences",
    ]


def test_a_step_that_removes_too_much_stops_what_is_below(store: Store) -> None:
    assert run("corpora", **CORPORA).success
    config = {"doctest_functions_removal_within_bounds": {"config": {"tests": 0.0}}}
    refused = run("instructions", ["doctest_functions", "executed_examples"], **config)
    assert not refused.success
    (check,) = refused.get_asset_check_evaluations()
    assert (check.passed, check.blocking) == (False, True)
    assert "raise ExampleBounds.tests" in str(check.description)
    assert store.refs.artifact("doctest_functions") is not None
    assert store.refs.artifact("executed_examples") is None


@pytest.mark.usefixtures("store")
def test_examples_that_were_never_made_are_asked_for_by_name() -> None:
    assert run("corpora", **CORPORA).success
    refused = run("instructions", ["executed_examples"])
    assert "doctest_functions, which was never made; materialize doctest_functions first" in said(refused)
    refused = run("instructions", ["executed_examples"], executed_examples={"config": {"path": "/no/such"}})
    assert "`path` need `licence`" in said(refused)
    config = {"path": "/no/such", "licence": "MIT"}
    refused = run("instructions", ["executed_examples"], executed_examples={"config": config})
    assert "ExecutedExamplesRecipe.path = '/no/such': no such file" in said(refused)
