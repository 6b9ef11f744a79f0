"""A tokenizer and a shard of real code, small enough to train on in a second."""

from __future__ import annotations

import inspect
import math
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codellm_dag.recipes.tokens import ShardsRecipe, TokenizerRecipe
from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.tokens import token_shards, tokenizer
from codellm_dag.training import pretrained_checkpoint, saving
from tests.modelkit.tiny import RecordingReport, artifact
from tests.tokens.conftest import write_mixture

TINY = PretrainingRecipe.parse(
    {
        "model": {"hidden_size": 32, "layers": 2, "heads": 2, "kv_heads": 1, "intermediate_size": 64},
        "optimizer": {"name": "muon", "learning_rate": 0.01},
        "batch": {"global_rows": 4},
        "tokens": 12 * 4 * 64,
    }
)
"""Twelve steps of four rows of 64 tokens."""
SPIKES = TINY.with_changes(
    {
        "optimizer": {"name": "adamw", "learning_rate": 1e-6, "schedule": "constant"},
        "divergence": {
            "action": "rollback",
            "rollback_steps": 3,
            "skip_steps": 0,
            "spike_deviations": 1.0,
            "spike_window": 8,
            "rollbacks": 100,
        },
    }
)
"""Losses that only the choice of rows moves, so that every spike is known beforehand."""


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The inputs of `pretrained_checkpoint`."""
    folder = tmp_path_factory.mktemp("inputs")
    corpus = artifact(write_mixture(folder / "mixture", {"python": [inspect.getsource(textwrap)]}))
    for name in ("tokenizer", "shard"):
        (folder / name).mkdir()
    report = RecordingReport(folder)
    tokenizer.run(
        TokenizerRecipe(vocabulary_size=400), Inputs({"corpus": corpus}), folder / "tokenizer", report
    )
    vocabulary = artifact(folder / "tokenizer")
    recipe = ShardsRecipe(language="python", sequence_length=64)
    token_shards.run(recipe, Inputs({"corpus": corpus, "tokenizer": vocabulary}), folder / "shard", report)
    return Inputs({"tokenizer": vocabulary, "shards/python": artifact(folder / "shard")})


def files(folder: Path) -> dict[str, bytes]:
    """Content of every file in `folder` by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def save_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the trainer save after every step, at once, whatever that costs."""
    monkeypatch.setattr(saving, "FIRST_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(saving, "THREAD_SECONDS", math.inf)
    monkeypatch.setattr(saving, "save_interval", lambda *_: 0.0)


ANSWERS = {"one": "    return 1", "two": "    return 2"}


@pytest.fixture(scope="module")
def slots(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A pretrained checkpoint, its tokenizer, and two questions four times over."""
    folder = tmp_path_factory.mktemp("sft")
    for name in ("pretrained", "data"):
        (folder / name).mkdir()
    pretrained_checkpoint.run(TINY, inputs, folder / "pretrained", RecordingReport(folder / "resume"))
    talks = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, answer in ANSWERS.items()
    ]
    pq.write_table(pa.table({"messages": talks * 4}), folder / "data" / "train.parquet")
    return {
        "checkpoint": artifact(folder / "pretrained"),
        "data": artifact(folder / "data"),
    }
