"""The sensor and the schedule, on a real folder that grows."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from codellm_dag.automation import corpus_growth, selections, source_digests, weekly_retrain


@dg.op
def nothing() -> None:
    """An op for a job."""


@dg.job
def retrain() -> None:
    """What the sensor and the schedule fire."""
    nothing()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one source of a preset of our own."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.py").write_text("print('a')\n")
    preset = tmp_path / "mine.yaml"
    preset.write_text(
        f"""
ops:
  raw_corpus:
    config:
      sources:
      - {{kind: local_dir, language: python, path: {source}, licence: MIT}}
      - {{kind: local_dir, language: go, path: {tmp_path}/nowhere, licence: MIT}}
"""
    )
    monkeypatch.setenv("CODELLM_PRESET", str(preset))
    return source


def look(cursor: str | None) -> tuple[list[dg.RunRequest], str | None, str | None]:
    """One tick: the runs it asks for, the new cursor, and why it skipped."""
    sensor = corpus_growth(retrain)
    with dg.DagsterInstance.ephemeral() as instance:
        context = dg.build_sensor_context(instance=instance, cursor=cursor)
        data = sensor.evaluate_tick(context)
    return list(data.run_requests or []), data.cursor, data.skip_message


def test_the_first_look_remembers_and_the_next_change_fires_once(folder):
    requests, cursor, said = look(None)
    assert (requests, said) == ([], "remembered the sources as they are now; the next change runs retrain")
    assert cursor
    assert look(cursor) == ([], cursor, "no source changed")
    (folder / "b.py").write_text("print('b')\n")
    requests, grown, _ = look(cursor)
    assert [request.run_key for request in requests] == [grown]
    assert grown != cursor
    assert look(grown)[0] == []


def test_a_changed_byte_is_a_change(folder):
    before = source_digests()
    (folder / "a.py").write_text("print('A')\n")
    assert source_digests() != before


@pytest.mark.usefixtures("folder")
def test_a_source_that_is_not_there_is_not_an_error():
    found = source_digests()
    assert [len(found["python"]), len(found["go"])] == [1, 0]
    assert found["python"][0]["content_digest"]


def test_nothing_runs_by_itself_until_it_is_turned_on():
    assert weekly_retrain(retrain).default_status is dg.DefaultScheduleStatus.STOPPED
    assert corpus_growth(retrain).default_status is dg.DefaultSensorStatus.STOPPED


def test_the_jobs():
    regular = ["lifecycle", "corpora", "pretrain", "post_train", "evaluate"]
    regular += ["instructions", "sft_datasets", "scaling_laws", "training_studies", "framework_comparison"]
    regular += ["retrain"]
    assert list(selections()) == regular


def test_reports_and_the_leaderboard_follow_new_samples_by_themselves():
    """Both are cheap; what costs, nothing but a person, a schedule or a changed source starts."""
    from codellm_dag.definitions import defs

    def report(asset: str) -> None:
        partition = dg.MultiPartitionKey({"model": "sft@epochs=2", "benchmark": "microbench"})
        instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition))

    def requested(cursor: Any) -> tuple[dict[str, int], Any]:
        result = dg.evaluate_automation_conditions(defs, instance, cursor=cursor)
        names = ("samples", "eval_report", "leaderboard", "sft_checkpoint")
        found = {name: result.get_num_requested(dg.AssetKey(name)) for name in names}
        return {name: number for name, number in found.items() if number}, result.cursor

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("model", ["sft", "sft@epochs=2"])
        asked, cursor = requested(None)
        assert asked == {}
        report("samples")
        asked, cursor = requested(cursor)
        assert asked["eval_report"] == 1
        report("eval_report")
        asked, _ = requested(cursor)
        assert asked == {"leaderboard": 1}


def test_the_life_cycle_of_an_outside_model_passes_pretraining_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from codellm_dag.definitions import defs

    def life_cycle() -> set[str]:
        chosen, _ = selections()["lifecycle"]
        return {key.to_user_string() for key in chosen.resolve(defs.resolve_asset_graph())}

    own = life_cycle()
    preset = tmp_path / "outside.yaml"
    preset.write_text("ops: {sft_checkpoint: {config: {base: base_checkpoint}}}\n")
    monkeypatch.setenv("CODELLM_PRESET", str(preset))
    assert own - life_cycle() == {"tokenizer", "token_shards", "pretrained_checkpoint"}
    assert life_cycle() - own == {"base_checkpoint"}


def test_the_comparison_of_frameworks_makes_the_dataset_that_it_learns_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from codellm_dag.definitions import defs

    def comparison() -> set[str]:
        chosen, _ = selections()["framework_comparison"]
        return {key.to_user_string() for key in chosen.resolve(defs.resolve_asset_graph())}

    assert comparison() == {"framework_checkpoint", "sft_frameworks"}
    preset = tmp_path / "mine.yaml"
    preset.write_text("ops: {framework_checkpoint: {config: {training: {data: mine}}}}\n")
    monkeypatch.setenv("CODELLM_PRESET", str(preset))
    assert comparison() == {"instruction_data", "framework_checkpoint", "sft_frameworks"}
