"""Assets in runs over all partitions and in runs of one, with real stages in this process."""

import dagster as dg
import pytest

from resources.observers import observing

from .conftest import failure

WHY = "why"
VERSION = "dagster/data_version"


def test_a_run_without_partitions_makes_every_partition(toys):
    assert toys.run_whole().success
    assert (toys.text("number", "python"), toys.text("number", "rust")) == ("3", "5")
    assert toys.text("total") == "8"
    assert toys.text("scaled", "base") == "16.0"
    assert toys.text("judged", "scaled|humaneval") == "16.000"
    key = dg.AssetKey("judged")
    assert toys.instance.get_materialized_partitions(key) == {"humaneval|scaled", "microbench|scaled"}
    assert list(toys.instance.get_dynamic_partitions("model")) == ["scaled"]


def test_data_versions_are_content_digests(toys):
    toys.run_whole()
    events = toys.events("number")
    for language in ("python", "rust"):
        artifact = toys.store.refs.artifact("number", language)
        assert events[language].tags["dagster/data_version"] == artifact.content_digest
        assert events[language].tags["dagster/code_version"] == events[None].tags["dagster/code_version"]
    total = toys.events("total")[None]
    assert total.tags["dagster/data_version"] == toys.store.refs.artifact("total").content_digest
    for partition in ("humaneval|scaled", "microbench|scaled"):
        tags = toys.events("judged")[partition].tags
        assert tags["dagster/input_data_version/scaled"] == toys.events("scaled")[None].tags[VERSION]
    assert total.tags["dagster/input_data_version/number"] == events[None].tags["dagster/data_version"]


def test_the_whole_has_another_data_version_only_if_a_partition_has(toys):
    toys.run_whole()
    first = toys.events("number")[None].tags["dagster/data_version"]
    toys.run_whole()
    assert toys.events("number")[None].tags["dagster/data_version"] == first
    toys.run_whole(number={"numbers": {"python": 3, "rust": 6}})
    assert toys.events("number")[None].tags["dagster/data_version"] != first


def test_a_second_run_reuses_everything_and_says_why(toys):
    toys.run_whole()
    assert toys.run_whole().success
    for asset, partition in [("number", "python"), ("total", None), ("judged", "humaneval|scaled")]:
        shown = toys.events(asset)[partition].metadata[WHY].value
        assert shown == "**reused**\n\n- nothing changed"
    assert len(toys.store.ledger.rows()) == 6


def test_a_run_of_one_partition_makes_that_one_only(toys):
    assert toys.run("number", "rust").success
    assert toys.store.refs.get("number", "python") is None
    assert toys.text("number", "rust") == "5"
    event = toys.events("number")["rust"]
    assert event.tags["dagster/data_version"] == toys.store.refs.artifact("number", "rust").content_digest
    assert event.metadata["dagster/row_count"].value == 5


def test_downstream_of_partitions_takes_those_that_were_made(toys):
    toys.run("number", "rust")
    assert toys.run("total").success
    assert toys.text("total") == "5"


def test_an_input_that_was_never_made_is_named(toys):
    toys.instance.add_dynamic_partitions("trial", ["base"])
    assert failure(toys.run("scaled", "base")) == (
        f"total has no artifact in the store {toys.store.url}; materialize total first"
    )


def test_within_a_run_inputs_are_what_that_run_made(toys):
    toys.run("number", "python", number={"numbers": {"python": 100}})
    assert toys.run_whole(number={"numbers": {"rust": 5}}).success
    assert toys.text("total") == "5"


def test_a_missing_language_is_said_and_left_out(toys):
    result = toys.run_whole(number={"numbers": {"python": 1, "go": 2}})
    assert result.success
    assert toys.text("total") == "1"
    shown = toys.events("number")[None].metadata["left out"].value
    assert shown == "- **go**: the package of go was not fetched; run make corpora"


def test_a_missing_language_that_was_asked_for_fails(toys):
    said = failure(toys.run("number", "go", number={"numbers": {"go": 2}}))
    assert said == "number: the package of go was not fetched; run make corpora"


def test_no_language_at_all_fails(toys):
    assert "every partition is left out" in failure(toys.run_whole(number={"numbers": {"go": 2}}))


def test_a_partition_without_a_recipe_is_refused_with_those_there_are(toys):
    said = failure(toys.run("number", "java"))
    assert said.startswith("number: partition 'java' cannot be made now")
    assert said.endswith("possible at present: python, rust")


def test_a_trial_is_the_recipe_with_its_key_as_changes(toys):
    toys.run_whole()
    toys.instance.add_dynamic_partitions("trial", ["factor=10"])
    assert toys.run("scaled", "factor=10").success
    assert toys.text("scaled", "factor=10") == "80.0"
    assert "scaled@factor=10" in toys.instance.get_dynamic_partitions("model")
    key = dg.MultiPartitionKey({"model": "scaled@factor=10", "benchmark": "humaneval"})
    assert toys.run("judged", key).success
    assert toys.text("judged", "scaled@factor=10|humaneval") == "80.000"
    (row,) = [row for row in toys.store.ledger.rows("scaled") if row.trial == "factor=10"]
    assert row.recipe["factor"] == 10.0


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        ("facter=10", "no field 'facter'; allowed: factor, steps"),
        ("factor=-1", "factor = -1: Input should be"),
    ],
)
def test_a_wrong_trial_fails_before_anything_is_launched(toys, trial, message):
    toys.run_whole()
    attempts = len(toys.store.ledger.rows())
    toys.instance.add_dynamic_partitions("trial", [trial])
    assert message in failure(toys.run("scaled", trial))
    assert len(toys.store.ledger.rows()) == attempts
    assert f"scaled@{trial}" not in toys.instance.get_dynamic_partitions("model")


def test_a_model_that_is_not_there_is_refused_with_those_there_are(toys):
    toys.run_whole()
    toys.instance.add_dynamic_partitions("model", ["scaled@factor=7"])
    key = dg.MultiPartitionKey({"model": "scaled@factor=7", "benchmark": "humaneval"})
    said = failure(toys.run("judged", key))
    assert "'scaled@factor=7|humaneval' cannot be made now" in said
    assert "scaled|humaneval, scaled|microbench" in said


def test_a_stage_that_fails_is_one_sentence_with_its_label(toys):
    result = toys.run_whole(scaled={"factor": 13.0})
    assert failure(result) == "scaled/base failed (error): ValueError: thirteen is unlucky"
    (event,) = [event for event in result.all_events if event.is_step_failure]
    metadata = event.step_failure_data.user_failure_data.metadata
    assert metadata["label"].value == "error"
    assert toys.text("total") == "8"


def test_curves_tables_and_recipe_are_on_the_asset(toys):
    toys.run_whole()
    scaled = toys.events("scaled")["base"].metadata
    assert scaled["curves"].value.startswith("![scaled: curves](data:image/svg+xml;base64,")
    assert scaled["recipe"].value == {"factor": 2.0, "steps": 3}
    table = toys.events("total")[None].metadata["table: numbers"]
    assert [record.data for record in table.records] == [
        {"language": "python", "number": 3},
        {"language": "rust", "number": 5},
    ]
    partitions = toys.events("number")[None].metadata["partitions"]
    assert [record.data["partition"] for record in partitions.records] == ["python", "rust"]


def test_observers_hear_every_stage_and_dagster_gets_its_log(toys):
    heard = []
    with observing(heard.append):
        result = toys.run_whole()
    assert {event.title for event in heard if event.type == "started"} == {
        "number/python", "number/rust", "total", "scaled/base", "judged/scaled|humaneval",
        "judged/scaled|microbench",
    }  # fmt: skip
    assert any(event.type == "progress" and event.done == 3 for event in heard)
    logged = [record.user_message for record in toys.instance.all_logs(result.run_id)]
    assert "the number of rust is 5" in logged


def test_a_stage_in_a_process_of_its_own_gives_the_same(toys):
    toys.run_whole()
    before = toys.store.refs.artifact("total")
    toys.resources["launcher"] = type(toys.resources["launcher"])(kind="local")
    assert toys.run("total", total={"plus": 1}).success
    assert toys.text("total") == "9"
    assert toys.run("total").success
    assert toys.store.refs.artifact("total") == before


def test_a_damaged_artifact_that_is_reused_stops_what_is_below(toys):
    toys.run_whole()
    artifact = toys.store.refs.artifact("total")
    path = toys.store.local_path(artifact) / "number.txt"
    path.chmod(0o644)
    path.write_text("9")  # as many bytes as before, so that only a hash can tell
    result = toys.run_whole()
    assert not result.success
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("is_whole", False)
    assert check.description.startswith("total: number.txt ")
    skipped = {event.step_key for event in result.all_events if event.is_step_skipped}
    assert "scaled" not in {event.step_key for event in result.all_events if event.is_step_start} | skipped


def test_what_is_whole_passes(toys):
    toys.run_whole()
    (check,) = toys.run_whole().get_asset_check_evaluations()
    assert (check.check_name, check.passed, check.metadata["hashed again"].value) == ("is_whole", True, 1)


def test_a_job_over_one_asset_takes_every_model_that_was_ever_made(toys):
    toys.run_whole()
    toys.instance.add_dynamic_partitions("trial", ["factor=10"])
    toys.run("scaled", "factor=10")
    assert toys.run_whole(only="judged").success
    assert toys.text("judged", "scaled@factor=10|microbench") == "80.000"
    key = dg.AssetKey("judged")
    assert "microbench|scaled@factor=10" in toys.instance.get_materialized_partitions(key)
