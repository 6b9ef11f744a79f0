"""Toy fine-tuning."""

import json

from toy_life_stages.training import train


def run(recipe, inputs, out, report):
    """Write model.json."""
    start = json.loads((inputs["checkpoint"].path / "model.json").read_text())
    model = train(recipe, start, "instructions")
    report.metric(loss=round(1 - model, 6))
    (out / "model.json").write_text(json.dumps(model))
