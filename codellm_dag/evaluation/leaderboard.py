"""Stage leaderboard: all reports as one table, ``leaderboard.json`` and ``leaderboard.md``.

A row is a row of ``scores.json`` with its model and the digest of its report. What a number cost is not a
result and stands in the manifests: ``codellm-dag scores`` adds it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codellm_dag.evaluation.errors import BadInput
from codellm_dag.evaluation.scores import read_scores
from codellm_dag.recipes.evaluation import BENCHMARKS, LeaderboardRecipe
from codellm_dag.stages.protocol import Inputs, LocalArtifact, Report

_STAGE_ORDER = ("pretrained", "sft", "rl")


def run(recipe: LeaderboardRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Merge the reports in slots ``report/<model>|<benchmark>``. Raises BadInput for none or a bad key."""
    rows = leaderboard_rows(inputs.many("report"))
    text = json.dumps(rows, indent=1, sort_keys=True, allow_nan=False)
    (out / "leaderboard.json").write_text(text + "\n", encoding="utf-8")
    (out / "leaderboard.md").write_text(markdown(rows, recipe.digits), encoding="utf-8")
    report.table("leaderboard", [_cells(row, recipe.digits) for row in rows[:100]])
    report.metric(rows=len(rows), models=len({row["model"] for row in rows}))
    report.progress(len(rows), len(rows), "rows")


def leaderboard_rows(reports: Mapping[str, LocalArtifact]) -> list[dict[str, Any]]:
    """Rows by benchmark, metric and model (pretrained, sft, rl, then others by name)."""
    if not reports:
        raise BadInput(
            "the leaderboard has no report; give it at least one in a slot report/<model>|<benchmark>"
        )
    rows = []
    for key, artifact in reports.items():
        model = _model_of(key)
        for score in read_scores(artifact.path):
            rows.append({"model": model, "report_digest": artifact.content_digest, **asdict(score)})
    return sorted(rows, key=_order)


def markdown(rows: Sequence[Mapping[str, Any]], digits: int) -> str:
    """A table with one line a number."""
    cells = [_cells(row, digits) for row in rows]
    lines = ["| " + " | ".join(cells[0]) + " |", "|" + "|".join(" --- " for _ in cells[0]) + "|"]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in cells]
    confidences = sorted({row["confidence"] for row in rows})
    levels = ", ".join(f"{confidence:.0%}" for confidence in confidences)
    return "\n".join(
        [*lines, "", f"Intervals: {levels} confidence; how each is computed stands in the JSON.", ""]
    )


def _model_of(key: str) -> str:
    model, bar, benchmark = key.rpartition("|")
    if not bar or not model or benchmark not in BENCHMARKS:
        raise BadInput(
            f"report slot 'report/{key}' is not report/<model>|<benchmark>; benchmarks: "
            f"{', '.join(BENCHMARKS)}"
        )
    return model


def _order(row: Mapping[str, Any]) -> tuple[int, str, int, str]:
    method = row["model"].partition("@")[0]
    place = _STAGE_ORDER.index(method) if method in _STAGE_ORDER else len(_STAGE_ORDER)
    return BENCHMARKS.index(row["benchmark"]), row["metric"], place, row["model"]


def _cells(row: Mapping[str, Any], digits: int) -> dict[str, Any]:
    low, high = row["ci_low"], row["ci_high"]
    interval = "–" if low is None or high is None else f"{low:.{digits}f} – {high:.{digits}f}"
    return {
        "benchmark": row["benchmark"],
        "metric": row["metric"],
        "model": row["model"],
        "value": f"{row['value']:.{digits}f}",
        "interval": interval,
        "n": row["n"],
        "samples": row["samples_per_problem"],
        "judged inside": f"{row['judged_inside']:.0%}",
        "better": "higher" if row["higher_is_better"] else "lower",
    }
