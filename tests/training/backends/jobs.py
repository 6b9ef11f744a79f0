"""Training jobs for tests of outside frameworks: a tiny Llama, its tokenizer, a few conversations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from codellm_dag.recipes.training import PretrainingRecipe, SftRecipe
from codellm_dag.training.backends.protocol import TrainingJob, backend
from codellm_dag.training.chat_examples import tokenized
from codellm_dag.training.outside import OUTPUT
from codellm_dag.training.plan import Plan
from codellm_dag.training.rows import Example, ExampleRows
from tests.modelkit.tiny import RecordingReport, byte_tokenizer, save_checkpoint, tiny_llama

TALKS = [
    [
        {"role": "user", "content": f"What is {number} + 1?"},
        {"role": "assistant", "content": f"It is {number + 1}."},
    ]
    for number in range(40)
]
SFT: dict[str, Any] = {
    "optimizer": {"learning_rate": 0.01, "warmup_fraction": 0.2},
    "batch": {"global_rows": 4},
    "sequence_length": 128,
}
PRETRAINING: dict[str, Any] = {
    "model": {"hidden_size": 64, "layers": 4, "heads": 4, "kv_heads": 2, "intermediate_size": 128},
    "batch": {"global_rows": 8},
}

BF16: dict[str, Any] = {"compute.precision": "bf16", "compute.gradient_checkpointing": True}
"""Changes of a recipe: bfloat16 products, and blocks computed again in the backward pass."""


def sft(name: str, changes: Mapping[str, Any] | None = None) -> SftRecipe:
    """The recipe SFT with backend `name` and dotted `changes`."""
    return SftRecipe.parse({**SFT, "backend": {"name": name}}).with_changes(changes or {})


def pretraining(name: str, changes: Mapping[str, Any] | None = None) -> PretrainingRecipe:
    """The recipe PRETRAINING with backend `name` and dotted `changes`."""
    return PretrainingRecipe.parse({**PRETRAINING, "backend": {"name": name}}).with_changes(changes or {})


def job(
    recipe: SftRecipe | PretrainingRecipe,
    folder: Path,
    steps: int = 10,
    processes: int = 1,
    talks: list[list[dict[str, str]]] = TALKS,
) -> TrainingJob:
    """`recipe` as a job of `steps` steps below `folder`."""
    tokenizer = save_checkpoint(folder / "tokenizer", chat=False)
    (folder / "work").mkdir()
    length = recipe.sequence_length if isinstance(recipe, SftRecipe) else 128
    vocabulary = len(byte_tokenizer())
    return TrainingJob(
        recipe=recipe,
        build=lambda: tiny_llama(vocabulary),
        tokenizer=tokenizer,
        rows=ExampleRows(list(tokenized(TALKS, tokenizer)), length, 0),
        messages=talks if isinstance(recipe, SftRecipe) else [],
        plan=Plan(
            recipe.optimizer,
            recipe.batch,
            steps,
            recipe.seed,
            "identity",
            micro_rows=2,
            compute=recipe.compute,
        ),
        processes=processes,
        work=folder / "work",
        resume=folder / "resume",
    )


def learns(name: str, folder: Path) -> RecordingReport:
    """What framework `name` reports of ten steps, in which its losses must fall and the weights change."""
    framework, this = backend(name), job(sft(name), folder, steps=10)
    rendered = framework.render(this)
    rendered.write(this.work)
    report = RecordingReport(folder / "resume")
    finished = framework.train(this, rendered, report)
    losses = finished.trained.losses
    assert [step for step, _ in report.points] == list(range(1, 11))
    assert [values["loss"] for _, values in report.points] == losses
    assert losses[0] > 5.0  # a random model of 259 entries: about ln 259 = 5.6 and more
    assert losses[-1] < losses[0] - 1.0
    assert finished.model.config.vocab_size == 259
    weight = "model.layers.0.mlp.up_proj.weight"
    assert not finished.model.state_dict()[weight].equal(this.build().state_dict()[weight])
    return report


def agrees_in_bf16(name: str, folder: Path, tolerance: float) -> str:
    """Ten steps of framework `name` in bf16 with recomputation, whose losses must be those of the trainer to
    `tolerance` of their size; returns what it printed.

    All conversations are one, so that order and packing change nothing; the trainer learns the newline after
    a turn too, as frameworks do. No weight decays: frameworks except others from it.
    """
    plain = {"optimizer.schedule": "constant", "optimizer.warmup_fraction": 0, "optimizer.weight_decay": 0}
    plain["optimizer.learning_rate"] = 0.002  # at 0.01 what is rounded grows tenfold in ten steps
    runs = {"ours": ("trainer", BF16), "float32": ("trainer", {}), "theirs": (name, BF16)}
    losses, weight = {}, "model.layers.0.mlp.up_proj.weight"
    for run, (who, changes) in runs.items():
        steps = 1 if run == "float32" else 10
        this = job(sft(who, {**plain, **changes}), folder / run, steps, talks=TALKS[:1] * 40)
        (example,) = tokenized(TALKS[:1], this.tokenizer)
        (newline,) = byte_tokenizer().encode("\n")
        taught = Example([*example.tokens, newline], [*example.learnt, True])
        this = dataclasses.replace(this, rows=ExampleRows([taught] * 40, 128, 0))
        rendered = backend(who).render(this)
        rendered.write(this.work)
        finished = backend(who).train(this, rendered, RecordingReport(folder / run / "resume"))
        losses[run], trained = finished.trained.losses, finished.model.state_dict()[weight]
    assert len(losses["theirs"]) == 10
    assert losses["theirs"] == pytest.approx(losses["ours"], rel=tolerance)
    apart = [abs(losses["theirs"][0] - losses[run][0]) for run in ("ours", "float32")]
    assert apart[0] < apart[1] / 2  # the products are bfloat16
    assert (trained != trained.bfloat16().float()).float().mean() > 0.9  # the weights are not
    return (this.work / OUTPUT).read_text(encoding="utf-8")
