"""An outside model through Dagster: made, fine-tuned where the recipe says so, asked for by name."""

from pathlib import Path

import dagster as dg
import pytest

from assets.checkpoints import base_checkpoint
from codellm_dag.definitions import defs
from codellm_dag.store import Store
from tests.modelkit.tiny import save_checkpoint

BENCHMARK = {"config": {"microbench_problems": 4, "maximum_problems": 4}}
FINE_TUNING = {"base": "base_checkpoint", "batch": {"global_rows": 2}, "sequence_length": 256, "replay": 0.0}


def run(job: str, asset: str, config: dict) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_job_def(job).execute_in_process(
            run_config={"ops": {asset: config}},
            instance=instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(asset)],
        )


def test_from_a_folder_to_a_fine_tuned_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODELLM_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("CODELLM_LAUNCHER", "inline")
    store = Store(tmp_path / "store")
    assert run("corpora", "benchmark_problems", BENCHMARK).success
    assert run("post_train", "sft_data", {"config": {"examples": 8}}).success

    refused = run("post_train", "sft_checkpoint", {"config": FINE_TUNING})
    (failure,) = [event for event in refused.all_events if event.is_step_failure]
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    assert told.description == "the recipe names base_checkpoint, which was never made; " + (
        "materialize base_checkpoint first"
    )

    folder = save_checkpoint(tmp_path / "model", chat=False, positions=512)
    recipe = {"config": {"kind": "folder", "path": str(folder)}}
    with dg.DagsterInstance.ephemeral() as instance:
        made = dg.materialize(
            [base_checkpoint],
            instance=instance,
            resources=defs.resources,
            run_config={"ops": {"base_checkpoint": recipe}},
        )
        assert made.success
        assert instance.get_dynamic_partitions("model") == ["base"]
    assert run("post_train", "sft_checkpoint", {"config": FINE_TUNING}).success
    tuned, base = store.refs.artifact("sft_checkpoint", "base"), store.refs.artifact("base_checkpoint")
    assert tuned is not None
    assert base is not None
    assert store.manifest(tuned).inputs["checkpoint"].fingerprint == base.fingerprint
