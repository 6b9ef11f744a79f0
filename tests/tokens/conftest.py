"""A small real corpus (modules of the standard library) and a tokenizer trained on it."""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codellm_dag.recipes.tokens import TokenizerRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.tokens import tokenizer
from tests.modelkit.tiny import RecordingReport, artifact


def write_mixture(folder: Path, texts: dict[str, list[str]]) -> Path:
    """A mixture's train.parquet with `texts` by language."""
    rows = [
        {"document_id": hashlib.sha256(text.encode()).hexdigest(), "text": text, "language": language}
        for language, listed in texts.items()
        for text in listed
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    return folder


@pytest.fixture(scope="session")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    python = [inspect.getsource(module) for module in (inspect, textwrap)]
    return write_mixture(
        tmp_path_factory.mktemp("mixture"), {"python": python, "go": ["package main\n" * 30]}
    )


@pytest.fixture(scope="session")
def vocabulary(mixture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer folder of 600 entries."""
    out = tmp_path_factory.mktemp("tokenizer")
    report = RecordingReport(tmp_path_factory.mktemp("resume"))
    tokenizer.run(TokenizerRecipe(vocabulary_size=600), Inputs({"corpus": artifact(mixture)}), out, report)
    return out
