"""Stage ``pretrained_checkpoint``: a Llama-style model from scratch on the packed shards of all languages.

The loss is on every token but the first of each piece. The token budget is rounded down to whole steps; more
tokens than the shards hold means further epochs. With the input ``start`` it begins with a trained model's
weights (`warm_start.py`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.stages.protocol import Inputs, Report
from codellm_dag.tokens import tokenizer as tokenizers
from codellm_dag.tokens.special import END_OF_TEXT
from codellm_dag.training.backends.protocol import TrainingJob
from codellm_dag.training.backends.protocol import run as run_backend
from codellm_dag.training.batches import micro_rows
from codellm_dag.training.model import new_model
from codellm_dag.training.output import run_identity, save_checkpoint
from codellm_dag.training.plan import Plan
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import InvalidTrainingDataError, ShardRows
from codellm_dag.training.warm_start import start_of, started_from

DISTRIBUTED = True


def run(recipe: PretrainingRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Train on inputs ``shards/<language>`` and write the checkpoint folder.

    Metrics: parameters, tokens, steps, epochs, loss_first, loss_last (mean of the last tenth of steps).
    Raises InvalidTrainingDataError where shards, tokenizer and recipe do not fit each other, DivergedError
    when the loss is not finite.
    """
    torch.set_num_threads(report.runtime.threads)
    tokenizer = inputs["tokenizer"].path
    vocabulary = tokenizers.load(tokenizer)
    rows = ShardRows([shard.path for shard in inputs.many("shards").values()])
    if rows.vocabulary_size != vocabulary.get_vocab_size():
        raise InvalidTrainingDataError(
            f"the shards were made with a vocabulary of {rows.vocabulary_size}, the tokenizer has "
            f"{vocabulary.get_vocab_size()}; make the shards with this tokenizer"
        )
    if rows.sequence_length > recipe.model.maximum_positions:
        raise InvalidTrainingDataError(
            f"model.maximum_positions = {recipe.model.maximum_positions} is below the shards' "
            f"sequence_length = {rows.sequence_length}; raise it"
        )
    step_tokens = recipe.batch.global_rows * rows.sequence_length
    steps = recipe.tokens // step_tokens
    if not steps:
        raise InvalidTrainingDataError(
            f"tokens = {recipe.tokens} is less than one step of {step_tokens} tokens; raise it or lower "
            "batch.global_rows"
        )
    end_of_text = tokenizers.token_id(vocabulary, END_OF_TEXT)
    start = start_of(recipe.start, inputs)

    def build() -> Any:
        fresh = new_model(recipe.model, rows.vocabulary_size, end_of_text, recipe.seed)
        return started_from(start, fresh, recipe.start) if start else fresh

    processes = Processes.join()
    micro = micro_rows(recipe.batch.global_rows, processes.size, report.runtime.micro_rows)
    identity = run_identity(recipe, inputs, report.runtime.threads)
    plan = Plan(
        recipe.optimizer, recipe.batch, steps, recipe.seed, identity, micro, recipe.divergence, recipe.compute
    )
    with tempfile.TemporaryDirectory(prefix="training-") as work:
        job = TrainingJob(
            kind="pretraining",
            recipe=recipe,
            build=build,
            tokenizer=tokenizer,
            rows=rows,
            messages=[],
            plan=plan,
            processes=processes.size,
            work=Path(work),
            resume=report.resume_dir,
        )
        finished = run_backend(job, out, report)
    trained = finished.trained
    facts = {
        "stage": "pretrained_checkpoint",
        "recipe": recipe.model_dump(mode="json"),
        "steps": steps,
        "tokens": trained.targets,
    }
    if finished.model is not None:
        save_checkpoint(out, finished.model, tokenizer, chat=False, facts=facts)
        report.metric(parameters=sum(parameter.numel() for parameter in finished.model.parameters()))
    tail = trained.losses[-max(1, steps // 10) :]
    report.metric(
        tokens=trained.targets,
        steps=steps,
        epochs=steps * recipe.batch.global_rows / len(rows),
        loss_first=trained.losses[0],
        loss_last=sum(tail) / len(tail),
    )
