"""Toy scores in the real format."""

import json


def run(recipe, inputs, out, report):
    """Write scores.json."""
    value = round(json.loads((inputs["samples"].path / "samples.json").read_text()), recipe.digits)
    report.metric(pass_at_1=value)
    base = {
        "benchmark": "microbench",
        "estimator": "toy",
        "confidence": 0.95,
        "n": 40,
        "samples_per_problem": 10,
        "judged_inside": 0.0,
        "interval": "toy",
    }
    rows = [
        {**base, "metric": metric, "value": number, "ci_low": number - 0.1, "ci_high": number + 0.1}
        for metric, number in (("pass@1", value), ("pass@5", (1 + value) / 2))
    ]
    (out / "scores.json").write_text(json.dumps(rows))
    report.table("scores", [{"value": row["value"], "metric": row["metric"]} for row in rows])
