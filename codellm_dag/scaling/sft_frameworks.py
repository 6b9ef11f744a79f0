"""Stage ``sft_frameworks``: one fine-tuning by several frameworks, side by side.

Reads the checkpoints that `framework_checkpoint` made, one a framework, and scores each, and the model that
all started from, by our own evaluation: bits per byte on held-out documents and pass@1 on held-out problems
of microbench. It compares only what is the same fine-tuning: recipes that differ in more than the backend are
refused. Writes ``report.json`` (curves, scores) and ``_volatile/measured.json`` (speed and memory of the
machines that trained). It is a study (`study.py`): a model that is scored is not scored again.

What differs between the frameworks beside their code (rows, order, warm-up) is told in docs/frameworks.md.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from codellm_dag.evaluation.benchmarks.bits_per_byte import BITS_PER_BYTE
from codellm_dag.evaluation.benchmarks.microbench import MICROBENCH
from codellm_dag.evaluation.measure_code import measure_code
from codellm_dag.evaluation.measure_likelihood import measure_likelihood
from codellm_dag.recipes.evaluation import SamplesRecipe
from codellm_dag.recipes.frameworks import FrameworkReportRecipe
from codellm_dag.scaling.study import Study
from codellm_dag.stages.protocol import Inputs, LocalArtifact, Report
from codellm_dag.training.framework_checkpoint import CURVE_FILE, MEASURED_FILE
from codellm_dag.training.output import TRAINING_FILE, run_identity, write_json
from codellm_dag.training.plan import last_loss

REPORT_FILE = "report.json"
START = "start"
"""Name of the model that all frameworks started from, among the scores."""


class NotComparableError(ValueError):
    """The checkpoints were not made by one recipe, or one that was asked for is not there."""

    label = "invalid_recipe"


def run(recipe: FrameworkReportRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Compare inputs ``checkpoint/<backend>``, which were trained from input ``start``.

    ``corpus`` is the mixture, ``problems`` those of microbench. Metrics, of each framework:
    ``<backend>_loss_last`` and ``<backend>_pass_at_1``. Raises NotComparableError and what evaluation raises.
    """
    torch.set_num_threads(report.runtime.threads)
    checkpoints = chosen(recipe, inputs)
    refuse_mixed(checkpoints)
    frameworks = {name: _json(one.path / CURVE_FILE) for name, one in checkpoints.items()}
    taken = {name: _json(one.path / MEASURED_FILE) for name, one in checkpoints.items()}
    models = {START: inputs["start"], **checkpoints}
    identity = run_identity(recipe, inputs, report.runtime.threads)
    study = Study(report, identity, dict.fromkeys(models, 1.0), "models")
    scores = {name: study.trial(name, partial(_scores, recipe, models[name], inputs)) for name in models}
    values = {"frameworks": frameworks, "scores": scores}
    write_json(out / REPORT_FILE, values)
    write_json(out / MEASURED_FILE, taken)
    rows = comparison(frameworks, taken, scores)
    report.table("frameworks", rows)
    report.table("scores", [row for name in scores for row in _intervals(name, scores[name])])
    for row in rows[1:]:
        name = row["framework"]
        report.metric(**{f"{name}_loss_last": row["loss_last"], f"{name}_pass_at_1": row["pass@1"]})


def chosen(recipe: FrameworkReportRecipe, inputs: Inputs) -> dict[str, LocalArtifact]:
    """The checkpoints to compare, by backend. Raises NotComparableError for one that is not there."""
    there = inputs.many("checkpoint")
    names = recipe.backends or tuple(there)
    missing = [name for name in names if name not in there]
    if missing or not names:
        raise NotComparableError(
            f"FrameworkReportRecipe.backends = {', '.join(missing) or 'none'}: no such checkpoint; there: "
            f"{', '.join(there) or 'none'}; materialize partition {(missing or ['trainer'])[0]} of "
            "framework_checkpoint first"
        )
    return {name: there[name] for name in names}


def refuse_mixed(checkpoints: dict[str, LocalArtifact]) -> None:
    """Raise NotComparableError, naming a field, unless the recipes differ in the backend only."""
    recipes = {}
    for name, checkpoint in checkpoints.items():
        recipes[name] = _json(checkpoint.path / TRAINING_FILE)["recipe"]
        recipes[name].pop("backend")
    first, *others = recipes
    for name in others:
        for field, value in recipes[first].items():
            if recipes[name][field] != value:
                raise NotComparableError(
                    f"{name} was trained with {field} = {recipes[name][field]}, {first} with {value}; "
                    "materialize both partitions of framework_checkpoint with one recipe, or name in "
                    "FrameworkReportRecipe.backends those that belong together"
                )


def comparison(
    frameworks: dict[str, Any], taken: dict[str, Any], scores: dict[str, Any]
) -> list[dict[str, Any]]:
    """The table: a row a framework, the model that all started from before them.

    loss_last is the mean of the last tenth of steps; bits_per_byte is over all languages.
    """
    rows: list[dict[str, Any]] = [{"framework": START, **_short(scores[START])}]
    for name, curve in frameworks.items():
        losses = [loss for _, loss in curve["loss"]]
        rows.append(
            {
                "framework": name,
                "version": curve["version"],
                "steps": len(losses),
                "loss_first": losses[0],
                "loss_last": last_loss(losses),
                **taken[name],
                **_short(scores[name]),
            }
        )
    return rows


def _short(scores: dict[str, Any]) -> dict[str, float]:
    (passed,) = [row["value"] for row in scores["rows"] if row["metric"] == "pass@1"]
    return {"bits_per_byte": scores["bits_per_byte"], "pass@1": passed}


def _intervals(name: str, scores: dict[str, Any]) -> list[dict[str, Any]]:
    kept = ("metric", "value", "ci_low", "ci_high", "n")
    return [{"model": name, **{key: row[key] for key in kept}} for row in scores["rows"]]


def _scores(
    recipe: FrameworkReportRecipe, model: LocalArtifact, inputs: Inputs, report: Report
) -> dict[str, Any]:
    how = SamplesRecipe(bits_per_byte=recipe.bits_per_byte, microbench=recipe.microbench)
    slots = Inputs({"checkpoint": model, "corpus": inputs["corpus"], "problems": inputs["problems"]})
    likelihood = measure_likelihood(how, slots, report)
    code = measure_code(MICROBENCH, how, slots, report)
    rows = MICROBENCH.scores(code.records, recipe.scores)
    rows += BITS_PER_BYTE.scores(likelihood.records, recipe.scores)
    bits, size = (sum(likelihood.records[name].to_pylist()) for name in ("bits", "bytes"))
    return {"bits_per_byte": bits / size, "rows": [asdict(row) for row in rows]}


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
