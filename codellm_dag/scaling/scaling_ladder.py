"""Stage ``scaling_ladder``: small pretraining runs of one language on a grid of sizes and tokens.

Every point is the stage `pretrained_checkpoint` in a scratch folder, then bits per byte on held-out
documents; the checkpoints are not kept. It is a study (`study.py`): points that are done are kept to resume
from, and the one that was at work goes on from its own last checkpoint. Writes ``points.json``; the law is
fitted by `scaling_report`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from codellm_dag.evaluation.likelihood import document_bits
from codellm_dag.evaluation.measure_likelihood import heldout_documents
from codellm_dag.generation.loading import load_model
from codellm_dag.recipes.scaling import LadderRecipe
from codellm_dag.recipes.training import ModelShape, PretrainingRecipe
from codellm_dag.scaling.nested import NestedReport
from codellm_dag.scaling.study import Study
from codellm_dag.stages.protocol import Inputs, Report
from codellm_dag.tokens.shards import Shard
from codellm_dag.training import pretrained_checkpoint
from codellm_dag.training.architecture import of_shape
from codellm_dag.training.batch_schedule import batch_schedule
from codellm_dag.training.flops import training_flops_per_token
from codellm_dag.training.output import run_identity, write_json

POINTS_FILE = "points.json"


class NoPointError(ValueError):
    """No point of the ladder can be trained, or its language has no held-out documents."""

    label = "invalid_recipe"


@dataclass(frozen=True)
class Rung:
    """One point to train. ``held_out``: it is the larger run, not of the grid."""

    shape: ModelShape
    tokens: int
    held_out: bool

    @property
    def name(self) -> str:
        """Says what the point is."""
        shape = f"{self.shape.hidden_size}x{self.shape.layers}"
        return f"{shape}-{self.tokens}{'-held-out' if self.held_out else ''}"


def run(recipe: LadderRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Train and measure the ladder of ``recipe.language`` on its shard, the input ``shards``.

    Metrics: points, left_out, held_out_bits_per_byte. Raises NoPointError and what pretraining raises.
    """
    shard = Shard(inputs["shards"].path)
    step_tokens = recipe.training.batch.global_rows * shard.index["sequence_length"]
    rungs, left_out = chosen_rungs(recipe, len(shard) * shard.index["sequence_length"], step_tokens)
    if not rungs:
        raise NoPointError(
            f"{recipe.language}: no point fits: the shard holds {len(shard)} rows, a step has {step_tokens} "
            f"tokens; left out: {'; '.join(left_out)}"
        )
    report.log(f"{len(rungs)} points, {len(left_out)} left out: {'; '.join(left_out) or 'none'}")
    vocabulary, length = shard.index["vocabulary_size"], shard.index["sequence_length"]
    trials = {f"{number:02d}-{rung.name}": rung for number, rung in enumerate(rungs, 1)}
    flops = {
        name: float(rung.tokens * training_flops_per_token(of_shape(rung.shape, vocabulary), length))
        for name, rung in trials.items()
    }
    study = Study(report, run_identity(recipe, inputs, report.runtime.threads), flops)
    points = []
    for name, rung in trials.items():
        points.append(study.trial(name, partial(_point, recipe, rung, inputs)))
        report.point(len(points) - 1, bits_per_byte=points[-1]["bits_per_byte"])
    write_json(out / POINTS_FILE, {"language": recipe.language, "points": points, "left_out": left_out})
    report.table("points", points)
    report.metric(points=len(points), left_out=len(left_out))
    for point in points:
        if point["held_out"]:
            report.metric(held_out_bits_per_byte=point["bits_per_byte"])


def chosen_rungs(recipe: LadderRecipe, shard_tokens: int, step_tokens: int) -> tuple[list[Rung], list[str]]:
    """The points to train, the cheapest first, and why others are left out.

    `shard_tokens`: tokens of the shard's rows, padding counted, as in a run's number of tokens.
    """
    rungs = [Rung(shape, tokens, False) for shape in recipe.sizes for tokens in recipe.tokens]
    rungs.append(Rung(recipe.held_out_size, recipe.held_out_tokens, True))
    chosen, left_out = [], []
    for rung in rungs:
        epochs = rung.tokens / shard_tokens
        if epochs > recipe.maximum_epochs:
            left_out.append(f"{rung.name}: {epochs:.1f} epochs, more than maximum_epochs")
        elif rung.tokens < step_tokens:
            left_out.append(f"{rung.name}: less than one step")
        else:
            chosen.append(rung)
    chosen.sort(key=lambda rung: (rung.held_out, of_shape(rung.shape, 0).parameters * rung.tokens))
    return chosen, left_out


def _point(recipe: LadderRecipe, rung: Rung, inputs: Inputs, trial: NestedReport) -> dict[str, Any]:
    """Train and measure one point."""
    values = recipe.training.model_dump(mode="json")
    values |= {"model": rung.shape.model_dump(mode="json"), "tokens": rung.tokens}
    training = PretrainingRecipe.parse(values)
    shard = {"tokenizer": inputs["tokenizer"], f"shards/{recipe.language}": inputs["shards"]}
    with tempfile.TemporaryDirectory(prefix="ladder-") as scratch:
        pretrained_checkpoint.run(training, Inputs(shard), Path(scratch), trial)
        found = trial.metrics
        return {
            "parameters": found["parameters"],
            "tokens": _tokens(training, inputs),
            "hidden_size": rung.shape.hidden_size,
            "layers": rung.shape.layers,
            "held_out": rung.held_out,
            "training_loss": found["loss_last"],
            "epochs": found["epochs"],
            "bits_per_byte": _bits_per_byte(recipe, inputs, Path(scratch)),
        }


def _tokens(training: PretrainingRecipe, inputs: Inputs) -> int:
    """Tokens of all steps, padding counted."""
    length = Shard(inputs["shards"].path).index["sequence_length"]
    return batch_schedule(training.batch, training.tokens // length, length).rows * length


def _bits_per_byte(recipe: LadderRecipe, inputs: Inputs, folder: Path) -> float:
    documents = heldout_documents(inputs["corpus"].path, recipe.bits_per_byte)
    texts = [text for _, language, text in documents if language == recipe.language]
    if not texts:
        raise NoPointError(f"the mixture has no held-out documents of {recipe.language}")
    model, tokenizer = load_model(folder)
    bits = document_bits(model, tokenizer, texts, recipe.bits_per_byte)
    return sum(bits) / sum(len(text.encode()) for text in texts)
