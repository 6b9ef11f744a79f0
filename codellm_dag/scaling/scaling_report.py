"""Stage ``scaling_report``: the scaling law of every language, and how it foretells a larger run.

Reads the ladders' ``points.json``, fits ``L = E + A / N^alpha + B / D^beta`` to bits per byte of the grid,
and predicts the run that was held out. Writes ``report.json``. A language with too few points is named with
the reason, not an error.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codellm_dag.recipes.scaling import ScalingReportRecipe
from codellm_dag.scaling.law import (
    Law,
    Point,
    TooFewPointsError,
    bootstrap_laws,
    fit_law,
    interval,
    percentiles,
)
from codellm_dag.scaling.published_laws import PUBLISHED_LAWS, published_rank
from codellm_dag.scaling.scaling_ladder import POINTS_FILE
from codellm_dag.stages.protocol import Inputs, Report

REPORT_FILE = "report.json"
COEFFICIENTS = ("E", "A", "B", "alpha", "beta")


def run(recipe: ScalingReportRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Fit the ladders of inputs ``ladder/<language>``.

    Metrics: of each fitted language ``<language>_error``, the prediction's relative error for the held-out
    run, and ``<language>_inside``, whether the measured value lies in the prediction's interval.
    """
    languages = []
    for name, ladder in inputs.many("ladder").items():
        found = json.loads((ladder.path / POINTS_FILE).read_text(encoding="utf-8"))
        languages.append({"language": name, **fitted(found["points"], recipe)})
        report.progress(len(languages), len(inputs), "languages")
    values = {"languages": languages, "published": [asdict(row) for row in PUBLISHED_LAWS]}
    text = json.dumps(values, indent=1, sort_keys=True) + "\n"
    (out / REPORT_FILE).write_text(text, encoding="utf-8")
    report.table("law", [row for language in languages for row in _rows(language)])
    report.table("prediction", [_prediction_row(language) for language in languages])
    for language in languages:
        if language.get("prediction"):
            report.metric(
                **{
                    f"{language['language']}_error": language["prediction"]["relative_error"],
                    f"{language['language']}_inside": language["prediction"]["inside"],
                }
            )


def fitted(points: list[dict[str, Any]], recipe: ScalingReportRecipe) -> dict[str, Any]:
    """Law, intervals and prediction from the records of one ladder; or ``problem``, why there is none."""
    grid = [Point(p["parameters"], p["tokens"], p["bits_per_byte"]) for p in points if not p["held_out"]]
    answer: dict[str, Any] = {"points": points, "law": None, "prediction": None}
    try:
        law = fit_law(grid)
    except TooFewPointsError as error:
        return {**answer, "problem": str(error)}
    laws = bootstrap_laws(grid, recipe.resamples, recipe.seed)
    answer["law"] = asdict(law)
    answer["intervals"] = {name: interval(laws, name, recipe.confidence) for name in COEFFICIENTS}
    answer["fit_error"] = sum(abs(law.loss(p.parameters, p.tokens) / p.loss - 1) for p in grid) / len(grid)
    for point in points:
        if point["held_out"]:
            answer["prediction"] = _prediction(law, laws, point, recipe.confidence)
    return answer


def _prediction(law: Law, laws: list[Law], point: dict[str, Any], confidence: float) -> dict[str, Any]:
    where = point["parameters"], point["tokens"]
    low, high = percentiles([one.loss(*where) for one in laws], confidence)
    predicted, measured = law.loss(*where), point["bits_per_byte"]
    return {
        "parameters": where[0],
        "tokens": where[1],
        "predicted": predicted,
        "low": low,
        "high": high,
        "measured": measured,
        "relative_error": predicted / measured - 1,
        "inside": low <= measured <= high,
    }


def _rows(language: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a coefficient, with its interval."""
    if not language["law"]:
        return [{"language": language["language"], "coefficient": "none", "problem": language["problem"]}]
    rows = []
    for name in COEFFICIENTS:
        low, high = language["intervals"][name]
        row = {"language": language["language"], "coefficient": name, "value": language["law"][name]}
        rows.append(
            {**row, "ci_low": low, "ci_high": high, "n": sum(not p["held_out"] for p in language["points"])}
        )
    rows[0]["published_rank"] = published_rank(language["language"])
    return rows


def _prediction_row(language: dict[str, Any]) -> dict[str, Any]:
    if not language["prediction"]:
        return {"language": language["language"], "problem": language.get("problem", "no run was held out")}
    return {"language": language["language"], **language["prediction"]}
