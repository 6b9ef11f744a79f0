"""Stage eval_report: the numbers of one model on one benchmark, each with its interval.

Writes ``scores.json`` (rows: `scores.Score`) and ``breakdown.json`` (where the numbers come from). Needs
neither model nor sandbox, so a new k or confidence costs no sampling.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from codellm_dag.evaluation.benchmarks import BENCHMARKS
from codellm_dag.evaluation.records import read_samples
from codellm_dag.evaluation.scores import write_scores
from codellm_dag.recipes.evaluation import ReportRecipe
from codellm_dag.stages.protocol import Inputs, Report

BREAKDOWN_FILE = "breakdown.json"


def run(recipe: ReportRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Score ``inputs["samples"]``. Raises BadInput for a folder that the samples stage did not write."""
    summary, records = read_samples(inputs["samples"].path)
    benchmark = BENCHMARKS[summary["benchmark"]]
    scores = benchmark.scores(records, recipe)
    write_scores(out, scores)
    breakdown = benchmark.breakdown(records)
    text = json.dumps(breakdown, indent=1, sort_keys=True)
    (out / BREAKDOWN_FILE).write_text(text + "\n", encoding="utf-8")
    report.table(
        "scores",
        [
            {
                "metric": score.metric,
                "value": score.value,
                "ci_low": score.ci_low,
                "ci_high": score.ci_high,
                "n": score.n,
            }
            for score in scores
        ],
    )
    report.table("breakdown", breakdown)
    values: dict[str, Any] = {score.metric: score.value for score in scores}
    errors = max(score.infrastructure_errors for score in scores)
    report.metric(**values, judged_inside=scores[0].judged_inside, infrastructure_errors=errors)
    report.progress(1, 1, "report")
