"""Stage ``sft_checkpoint``: fine-tunes a checkpoint on chat messages, loss on the assistant's tokens only.

Examples are packed whole into rows and never attend to each other. The result is a chat model: its
training.json says so, and generation ends at the end of a message.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from codellm_dag.recipes.training import SftRecipe
from codellm_dag.stages.protocol import Inputs, Report
from codellm_dag.tokens import tokenizer as tokenizers
from codellm_dag.tokens.special import END_OF_TEXT
from codellm_dag.training.batch_schedule import batch_schedule
from codellm_dag.training.chat_examples import read_messages, tokenized
from codellm_dag.training.checkpoint_stage import train_checkpoint
from codellm_dag.training.lora import merged, with_adapters
from codellm_dag.training.rows import (
    ExampleRows,
    InvalidTrainingDataError,
    ReplayRows,
    Rows,
    ShardRows,
)

DISTRIBUTED = True


def run(recipe: SftRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Fine-tune input ``checkpoint`` on input ``data`` and write the checkpoint folder.

    With ``replay`` rows of the inputs ``shards/*`` are read too. Metrics: examples, examples_too_long, rows,
    padding_share, epochs, rows_replayed, and those of `train_checkpoint`. Raises InvalidTrainingDataError
    where data, tokenizer and checkpoint do not fit each other, DivergedError when the loss is not finite.
    """
    from transformers import AutoConfig

    torch.set_num_threads(report.runtime.threads)
    checkpoint = inputs["checkpoint"].path
    vocabulary = tokenizers.load(checkpoint)
    messages = read_messages(inputs["data"].path, recipe.maximum_examples)
    examples = list(tokenized(messages, checkpoint))
    rows = ExampleRows(examples, recipe.sequence_length, tokenizers.token_id(vocabulary, END_OF_TEXT))
    entries = vocabulary.get_vocab_size()
    _check(AutoConfig.from_pretrained(checkpoint, local_files_only=True), entries, recipe.sequence_length)
    own = recipe.epochs * len(rows)
    schedule = batch_schedule(
        recipe.batch, own / (1.0 - recipe.replay), recipe.sequence_length, lambda steps: max(1, round(steps))
    )
    read = _with_replay(recipe, inputs, rows, schedule.rows, entries)
    train_checkpoint(
        "sft_checkpoint",
        recipe,
        inputs,
        out,
        report,
        build=lambda: _model(checkpoint, recipe),
        tokenizer=checkpoint,
        rows=read,
        schedule=schedule,
        messages=messages,
        finish=lambda model: merged(model, out) if recipe.lora.rank else model,
    )
    report.metric(
        examples=len(rows.examples),
        examples_too_long=rows.too_long,
        rows=len(rows),
        padding_share=rows.padding_share,
        rows_replayed=read.replayed if isinstance(read, ReplayRows) else 0,
        epochs=schedule.rows * (1.0 - recipe.replay) / len(rows),
    )


def _model(checkpoint: Path, recipe: SftRecipe) -> Any:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, local_files_only=True)
    return with_adapters(model, recipe.lora, recipe.seed) if recipe.lora.rank else model


def _with_replay(recipe: SftRecipe, inputs: Inputs, rows: Rows, total: int, vocabulary: int) -> Rows:
    shards = inputs.many("shards")
    if not recipe.replay:
        return rows
    if not shards:
        raise InvalidTrainingDataError(f"replay = {recipe.replay} needs the token shards of pretraining")
    pretraining = ShardRows([shards[language].path for language in shards])
    if pretraining.vocabulary_size != vocabulary:
        raise InvalidTrainingDataError(
            f"the shards to replay have a vocabulary of {pretraining.vocabulary_size}, the checkpoint's "
            f"tokenizer one of {vocabulary}; make the shards with that tokenizer, or set replay to 0"
        )
    return ReplayRows(rows, pretraining, recipe.replay, total, recipe.seed)


def _check(config: object, vocabulary_size: int, sequence_length: int) -> None:
    entries = getattr(config, "vocab_size", 0)
    if entries < vocabulary_size:
        raise InvalidTrainingDataError(
            f"the checkpoint has {entries} embeddings, the tokenizer {vocabulary_size} entries; use the "
            "tokenizer that the checkpoint was trained with"
        )
    positions = getattr(config, "max_position_embeddings", sequence_length)
    if positions < sequence_length:
        raise InvalidTrainingDataError(
            f"sequence_length = {sequence_length} is above the checkpoint's {positions} positions; lower it"
        )
