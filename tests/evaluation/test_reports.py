"""eval_report and leaderboard: files, order, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codellm_dag.evaluation import eval_report, leaderboard
from codellm_dag.evaluation.errors import BadInput
from codellm_dag.evaluation.scores import Score, read_scores, write_scores
from codellm_dag.recipes.evaluation import LeaderboardRecipe, ReportRecipe
from codellm_dag.stages.protocol import Inputs
from tests.evaluation.benchmarks.test_code import records
from tests.modelkit.tiny import RecordingReport, artifact


def samples(folder: Path, benchmark: str = "microbench") -> Path:
    folder.mkdir()
    pq.write_table(
        records({"a": "ppffffffff", "b": "ffffffffff"}, template="x > y"), folder / "samples.parquet"
    )
    (folder / "samples.json").write_text(json.dumps({"benchmark": benchmark}))
    return folder


def score(benchmark: str = "microbench", metric: str = "pass@1", value: float = 0.25, **changes) -> Score:
    values = {
        "benchmark": benchmark,
        "metric": metric,
        "estimator": "e",
        "value": value,
        "ci_low": value - 0.1,
        "ci_high": value + 0.1,
        "confidence": 0.95,
        "n": 10,
        "samples_per_problem": 2,
        "judged_inside": 0.0,
        "interval": "i",
    }
    return Score(**{**values, **changes})


def reports(folder: Path, table: dict[str, list[Score]]) -> Inputs:
    slots = {}
    for number, (key, scores) in enumerate(table.items()):
        path = folder / f"report{number}"
        path.mkdir(parents=True)
        write_scores(path, scores)
        slots[f"report/{key}"] = artifact(path)
    return Inputs(slots)


def test_report_files_and_metadata(tmp_path: Path):
    report = RecordingReport(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    eval_report.run(ReportRecipe(), Inputs({"samples": artifact(samples(tmp_path / "samples"))}), out, report)
    rows = json.loads((out / "scores.json").read_text())
    assert [(row["metric"], row["value"]) for row in rows] == [
        ("pass@1", 0.1),
        ("pass@5", pytest.approx((1 - 56 / 252) / 2)),
    ]
    contract = {
        "benchmark", "metric", "estimator", "value", "ci_low", "ci_high", "confidence", "n",
        "samples_per_problem", "judged_inside",
    }  # fmt: skip
    assert contract <= set(rows[0])
    assert [row.metric for row in read_scores(out)] == ["pass@1", "pass@5"]
    assert json.loads((out / "breakdown.json").read_text())[0]["level"] == "2 steps"
    assert report.metrics["pass@1"] == 0.1
    assert [row["metric"] for row in report.tables["scores"]] == ["pass@1", "pass@5"]


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        (None, "does not hold"),
        ("{", "does not hold"),
        ('{"benchmark": "mmlu"}', "'mmlu' is not known; allowed"),
    ],
)
def test_a_folder_that_is_no_samples_artifact_is_refused(tmp_path: Path, summary: str | None, message: str):
    folder = samples(tmp_path / "samples")
    if summary is None:
        (folder / "samples.parquet").unlink()
    else:
        (folder / "samples.json").write_text(summary)
    with pytest.raises(BadInput, match=message):
        eval_report.run(
            ReportRecipe(), Inputs({"samples": artifact(folder)}), tmp_path, RecordingReport(tmp_path)
        )


def test_leaderboard_merges_in_the_order_of_the_life_cycle(tmp_path: Path):
    inputs = reports(
        tmp_path,
        {
            "rl|microbench": [score(value=0.5)],
            "sft@epochs=2|microbench": [score(value=0.3)],
            "pretrained|microbench": [score(value=0.1)],
            "sft|microbench": [score(value=0.2)],
            "rl|humaneval": [score("humaneval", value=0.0, ci_low=0.0, judged_inside=0.125)],
            "rl|bits_per_byte": [
                score(
                    "bits_per_byte",
                    "bits_per_byte/go",
                    2.0,
                    ci_low=None,
                    ci_high=None,
                    higher_is_better=False,
                )
            ],
        },
    )
    report = RecordingReport(tmp_path)
    leaderboard.run(LeaderboardRecipe(), inputs, tmp_path, report)
    rows = json.loads((tmp_path / "leaderboard.json").read_text())
    assert [(row["benchmark"], row["model"]) for row in rows] == [
        ("humaneval", "rl"),
        ("microbench", "pretrained"),
        ("microbench", "sft"),
        ("microbench", "sft@epochs=2"),
        ("microbench", "rl"),
        ("bits_per_byte", "rl"),
    ]
    assert rows[0]["report_digest"] == "digest of report4"
    lines = (tmp_path / "leaderboard.md").read_text().splitlines()
    assert lines[2] == "| humaneval | pass@1 | rl | 0.000 | 0.000 – 0.100 | 10 | 2 | 12% | higher |"
    assert lines[7] == "| bits_per_byte | bits_per_byte/go | rl | 2.000 | – | 10 | 2 | 0% | lower |"
    assert report.metrics == {"rows": 6, "models": 4}


@pytest.mark.parametrize("key", ["rl", "rl|mmlu", "|microbench"])
def test_leaderboard_refuses_keys_it_cannot_read(tmp_path: Path, key: str):
    with pytest.raises(BadInput, match=r"is not report/<model>\|<benchmark>"):
        leaderboard.run(
            LeaderboardRecipe(), reports(tmp_path, {key: [score()]}), tmp_path, RecordingReport(tmp_path)
        )


def test_leaderboard_refuses_nothing_and_damaged_scores(tmp_path: Path):
    with pytest.raises(BadInput, match="no report"):
        leaderboard.run(LeaderboardRecipe(), Inputs({}), tmp_path, RecordingReport(tmp_path))
    inputs = reports(tmp_path, {"rl|microbench": [score()]})
    (inputs["report/rl|microbench"].path / "scores.json").write_text('[{"metric": "pass@1"}]')
    with pytest.raises(BadInput, match="not a list of scores"):
        leaderboard.run(LeaderboardRecipe(), inputs, tmp_path, RecordingReport(tmp_path))


def test_reports_need_no_pytorch():
    code = (
        "import sys, codellm_dag.evaluation.eval_report, codellm_dag.evaluation.leaderboard; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
