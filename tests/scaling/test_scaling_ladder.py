"""A real ladder in seconds: its points, what is left out, what a stopped one keeps, and its report."""

from __future__ import annotations

import json

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.scaling import LadderRecipe, ScalingReportRecipe
from codellm_dag.scaling import scaling_ladder, scaling_report
from codellm_dag.scaling.scaling_ladder import NoPointError, chosen_rungs
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training import pretrained_checkpoint
from tests.modelkit.tiny import RecordingReport, artifact


def shape(width: int) -> dict[str, int]:
    return {"hidden_size": width, "layers": 1, "heads": 1, "kv_heads": 1, "intermediate_size": 2 * width}


RECIPE = LadderRecipe.parse(
    {
        "language": "python",
        "training": {"batch": {"global_rows": 4}, "optimizer": {"name": "muon", "learning_rate": 0.01}},
        "sizes": [shape(8), shape(16)],
        "tokens": [1024, 2048, 4096],
        "held_out_size": shape(24),
        "held_out_tokens": 8192,
        "bits_per_byte": {"bytes_per_language": 2048, "window_tokens": 64, "stride_tokens": 32},
    }
)


def test_a_ladder_and_its_report(ladder_inputs, tmp_path):
    report = RecordingReport(tmp_path / "resume")
    (tmp_path / "resume").mkdir()
    (tmp_path / "ladder").mkdir()
    scaling_ladder.run(RECIPE, ladder_inputs, tmp_path / "ladder", report)
    found = json.loads((tmp_path / "ladder" / "points.json").read_text())
    points = found["points"]
    assert [point["held_out"] for point in points] == [False] * 6 + [True]
    assert {point["tokens"] for point in points} == {1024, 2048, 4096, 8192}
    by = {(point["hidden_size"], point["tokens"]): point["bits_per_byte"] for point in points}
    assert by[16, 4096] < by[16, 1024]  # more tokens help
    assert by[24, 8192] < by[8, 1024]
    assert report.metrics["points"] == 7

    (tmp_path / "report").mkdir()
    inputs = Inputs({"ladder/python": artifact(tmp_path / "ladder")})
    scaling_report.run(ScalingReportRecipe(resamples=40), inputs, tmp_path / "report", report)
    (language,) = json.loads((tmp_path / "report" / "report.json").read_text())["languages"]
    prediction = language["prediction"]
    assert prediction["measured"] == by[24, 8192]
    assert prediction["relative_error"] == pytest.approx(prediction["predicted"] / prediction["measured"] - 1)
    assert prediction["low"] <= prediction["high"]
    assert report.metrics["python_error"] == prediction["relative_error"]
    assert [row["coefficient"] for row in report.tables["law"]] == ["E", "A", "B", "alpha", "beta"]


def test_a_point_is_what_the_pretraining_stage_makes(ladder_inputs, tmp_path):
    report = RecordingReport(tmp_path)
    recipe = RECIPE.with_changes({"sizes": [shape(8), shape(8)], "tokens": [1024, 1024]})
    (tmp_path / "out").mkdir()
    (tmp_path / "own").mkdir()
    scaling_ladder.run(recipe, ladder_inputs, tmp_path / "out", report)
    point = json.loads((tmp_path / "out" / "points.json").read_text())["points"][0]
    changes = {"model": shape(8), "tokens": 1024}
    inputs = {"tokenizer": ladder_inputs["tokenizer"], "shards/python": ladder_inputs["shards"]}
    own = RecordingReport(tmp_path / "own")
    training = type(recipe.training).parse(recipe.training.model_dump(mode="json") | changes)
    pretrained_checkpoint.run(training, Inputs(inputs), tmp_path / "own", own)
    assert point["training_loss"] == own.metrics["loss_last"]
    assert point["parameters"] == own.metrics["parameters"]


def test_what_is_left_out_is_named():
    rungs, left_out = chosen_rungs(RECIPE, shard_tokens=1024, step_tokens=1500)
    assert left_out == [
        "8x1-1024: less than one step",
        "16x1-1024: less than one step",
        "24x1-8192-held-out: 8.0 epochs, more than maximum_epochs",
    ]
    assert [rung.tokens for rung in rungs] == [2048, 4096, 2048, 4096]


def test_a_language_without_points_is_refused(ladder_inputs, tmp_path):
    report = RecordingReport(tmp_path)
    recipe = RECIPE.with_changes({"maximum_epochs": 0.001})
    with pytest.raises(NoPointError, match="python: no point fits: the shard holds"):
        scaling_ladder.run(recipe, ladder_inputs, tmp_path, report)
    recipe = RECIPE.for_partition("rust")
    with pytest.raises(NoPointError, match="the mixture has no held-out documents of rust"):
        scaling_ladder.run(recipe, ladder_inputs, tmp_path, report)


def test_a_report_of_too_few_points_says_why():
    points = [{"parameters": 10, "tokens": 20, "bits_per_byte": 2.0, "held_out": False}]
    answer = scaling_report.fitted(points, ScalingReportRecipe())
    assert answer["law"] is None
    assert answer["problem"].startswith("1 points of 1 sizes")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": [100, 0]}, "every number of tokens must be at least 1"),
        ({"sizes": [shape(8)]}, "at least 2 items"),
        ({"sizes": [shape(8), shape(9)]}, "must be even for rotary positions"),
        ({"maximum_epochs": 0}, "greater than 0"),
    ],
)
def test_bad_recipes(changes, message):
    with pytest.raises(InvalidRecipeError, match=message):
        RECIPE.with_changes(changes)


def test_too_few_resamples_for_the_confidence():
    with pytest.raises(InvalidRecipeError, match="too few for confidence"):
        ScalingReportRecipe.parse({"resamples": 20, "confidence": 0.99})
