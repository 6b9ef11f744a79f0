"""Stage ``pretrained_checkpoint``: a Llama-style model from scratch on the packed shards of all languages.

The loss is on every token but the first of each piece. The token budget is rounded down to whole steps; more
tokens than the shards hold means further epochs. With the input ``start`` it begins with a trained model's
weights (`warm_start.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.stages.protocol import Inputs, Report
from codellm_dag.tokens import tokenizer as tokenizers
from codellm_dag.tokens.special import END_OF_TEXT
from codellm_dag.training.batch_schedule import batch_schedule
from codellm_dag.training.checkpoint_stage import train_checkpoint
from codellm_dag.training.model import new_model
from codellm_dag.training.rows import InvalidTrainingDataError, ShardRows
from codellm_dag.training.warm_start import start_of, started_from

DISTRIBUTED = True


def run(recipe: PretrainingRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Train on inputs ``shards/<language>`` and write the checkpoint folder.

    Metrics: epochs, and those of `train_checkpoint`. Raises InvalidTrainingDataError where shards, tokenizer
    and recipe do not fit each other, DivergedError when the loss is not finite.
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
    length = rows.sequence_length
    schedule = batch_schedule(recipe.batch, recipe.tokens // length, length)
    if not schedule.steps:
        raise InvalidTrainingDataError(
            f"tokens = {recipe.tokens} is less than one step of {recipe.batch.global_rows * length} tokens; "
            "raise it or lower batch.global_rows"
        )
    end_of_text = tokenizers.token_id(vocabulary, END_OF_TEXT)
    start = start_of(recipe.start, inputs)

    def build() -> Any:
        fresh = new_model(recipe.model, rows.vocabulary_size, end_of_text, recipe.seed)
        return started_from(start, fresh, recipe.start) if start else fresh

    train_checkpoint(
        "pretrained_checkpoint",
        recipe,
        inputs,
        out,
        report,
        build=build,
        tokenizer=tokenizer,
        rows=rows,
        schedule=schedule,
    )
    report.metric(epochs=schedule.rows / len(rows))
