"""Toy pretraining."""

import json
import os
import time

from toy_life_stages.training import train


def run(recipe, inputs, out, report):
    """Write model.json."""
    model = train(recipe, 0.0, inputs["corpus"].content_digest)
    for step in range(recipe.steps):
        time.sleep(float(os.environ.get("TOY_SECONDS", "0")) / recipe.steps)
        report.progress(step + 1, recipe.steps, "steps")
    report.metric(loss=round(1 - model, 6))
    (out / "model.json").write_text(json.dumps(model))
    (out / "training.json").write_text(json.dumps({"steps": recipe.steps}))
