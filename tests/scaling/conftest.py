"""A tokenizer, a shard and a mixture with held-out documents, small enough to train on in a second."""

from __future__ import annotations

import inspect
import textwrap

import pyarrow.parquet as pq
import pytest

from codellm_dag.evaluation.measure_likelihood import HELDOUT_FILE
from codellm_dag.recipes.tokens import ShardsRecipe, TokenizerRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.tokens import token_shards, tokenizer
from tests.modelkit.tiny import RecordingReport, artifact
from tests.tokens.conftest import write_mixture


@pytest.fixture(scope="session")
def ladder_inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The inputs of `scaling_ladder` for Python; what is held out is the end of the same source."""
    folder = tmp_path_factory.mktemp("ladder")
    source = inspect.getsource(textwrap)
    corpus = artifact(write_mixture(folder / "mixture", {"python": [source[:14_000]]}))
    held = write_mixture(folder / "held", {"python": [source[14_000:]]})
    table = pq.read_table(next(path for path in sorted(held.rglob("*.parquet")) if path.name != HELDOUT_FILE))
    pq.write_table(table, corpus.path / HELDOUT_FILE)
    report = RecordingReport(folder)
    for name in ("tokenizer", "shard"):
        (folder / name).mkdir()
    tokenizer.run(
        TokenizerRecipe(vocabulary_size=400), Inputs({"corpus": corpus}), folder / "tokenizer", report
    )
    vocabulary = artifact(folder / "tokenizer")
    recipe = ShardsRecipe(language="python", sequence_length=64)
    token_shards.run(recipe, Inputs({"corpus": corpus, "tokenizer": vocabulary}), folder / "shard", report)
    return Inputs({"tokenizer": vocabulary, "shards": artifact(folder / "shard"), "corpus": corpus})
