"""Training jobs for tests of outside frameworks: a tiny Llama, its tokenizer, a few conversations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codellm_dag.recipes.training import PretrainingRecipe, SftRecipe
from codellm_dag.training.backends.protocol import TrainingJob, backend
from codellm_dag.training.chat_examples import tokenized
from codellm_dag.training.plan import Plan
from codellm_dag.training.rows import ExampleRows
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
        plan=Plan(recipe.optimizer, recipe.batch, steps, recipe.seed, "identity", micro_rows=2),
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
