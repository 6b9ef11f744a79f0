"""Datasets as partitions, and trials of fine-tuning that learn from one each."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from assets.materialize import TRIALS_TAG
from codellm_dag.automation import selections
from codellm_dag.definitions import defs
from codellm_dag.store import Store

BENCHMARKS = {"benchmark_problems": {"config": {"microbench_problems": 4, "maximum_problems": 4}}}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("CODELLM_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("CODELLM_LAUNCHER", "inline")
    return Store(tmp_path / "store")


def run(
    job: str, asset: str, config: dict, instance: dg.DagsterInstance, **tags: str
) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(job).execute_in_process(
        run_config={"ops": config},
        instance=instance,
        raise_on_error=False,
        asset_selection=[dg.AssetKey(asset)],
        tags={name.replace("__", "/"): value for name, value in tags.items()},
    )


def said(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data
    assert data.user_failure_data, data.error
    return str(data.user_failure_data.description)


def dataset(folder: Path, name: str, answer: str) -> dict[str, str]:
    (folder / name).mkdir()
    row = {"instruction": f"Write {name}.", "answer": answer}
    (folder / name / "rows.jsonl").write_text(json.dumps(row) + "\n")
    return {"name": name, "path": str(folder / name), "licence": "MIT"}


def test_each_dataset_is_a_partition_and_a_trial_names_one(store: Store, tmp_path: Path) -> None:
    one, two = dataset(tmp_path, "one", "1"), dataset(tmp_path, "two", "2")
    config = {"instruction_data": {"config": {"datasets": [one, two]}}}
    with dg.DagsterInstance.ephemeral() as instance:
        assert run("corpora", "benchmark_problems", BENCHMARKS, instance).success
        refused = run("sft_datasets", "instruction_data", {}, instance)
        assert said(refused).startswith(
            "instruction_data.datasets is empty; name datasets, or choose a preset"
        )

        assert run("sft_datasets", "instruction_data", config, instance).success
        key = dg.AssetKey("instruction_data")
        assert instance.get_materialized_partitions(key) == {"one", "two"}
        assert set(instance.get_dynamic_partitions("dataset")) == {"one", "two"}
        before = store.refs.artifact("instruction_data", "one")

        (tmp_path / "two" / "rows.jsonl").write_text(json.dumps({"instruction": "Other.", "answer": "3"}))
        assert run("sft_datasets", "instruction_data", config, instance).success
        assert store.refs.artifact("instruction_data", "one") == before, "the other dataset is not in it"

        tags = {TRIALS_TAG.replace("/", "__"): json.dumps(["data=three", "data=two"])}
        refused = run("sft_datasets", "sft_checkpoint", {}, instance, **tags)
        assert said(refused).startswith("instruction_data has no partition 'three' yet (there: one, two)")
        tags = {TRIALS_TAG.replace("/", "__"): json.dumps(["data=two"])}
        refused = run("sft_datasets", "sft_checkpoint", {}, instance, **tags)
        assert "pretrained_checkpoint, which was never made" in said(refused), "its data was there"
        refused = run("sft_datasets", "sft_checkpoint", {}, instance)
        assert "sft_data, which was never made; materialize sft_data first" in said(refused)

        gone = {**one, "path": str(tmp_path / "gone")}
        config = {"instruction_data": {"config": {"datasets": [two, gone]}}}
        refused = run("sft_datasets", "instruction_data", config, instance)
        assert said(refused).startswith("instruction_data: one: InstructionDataset.path = ")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("text", ["data=one", "[1]", "{}"])
def test_a_tag_that_is_no_list_of_trials_is_refused(text: str) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        tags = {TRIALS_TAG.replace("/", "__"): text}
        refused = run("sft_datasets", "sft_checkpoint", {}, instance, **tags)
    assert f"tag codellm_dag/trials = {text!r}: allowed: a JSON list of trials" in said(refused)


def test_the_life_cycle_and_the_other_jobs_go_without_datasets() -> None:
    graph = defs.resolve_asset_graph()
    for job in ("lifecycle", "instructions", "post_train", "retrain"):
        names = {key.to_user_string() for key in selections()[job][0].resolve(graph)}
        assert "instruction_data" not in names, job
    (tag,) = [defs.resolve_job_def("sft_datasets").tags[TRIALS_TAG]]
    assert tag == "[]", "the laptop's preset names none"
