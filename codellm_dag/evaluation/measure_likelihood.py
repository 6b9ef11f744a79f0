"""Measures likelihood benchmarks: one record a held-out document.

The documents are those that no training stage has seen: ``heldout.parquet`` of the mixture, in order of
document id (a hash, so no source is preferred). How long texts are windowed is told in likelihood.py.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from codellm_dag.evaluation.benchmarks.base import Measurement
from codellm_dag.evaluation.benchmarks.bits_per_byte import by_language
from codellm_dag.evaluation.errors import BadInput
from codellm_dag.evaluation.likelihood import document_bits
from codellm_dag.generation.loading import load_model
from codellm_dag.recipes.evaluation import BitsPerByteRecipe, SamplesRecipe
from codellm_dag.stages.protocol import Inputs, Report

HELDOUT_FILE = "heldout.parquet"


def measure_likelihood(recipe: SamplesRecipe, inputs: Inputs, report: Report) -> Measurement:
    """One record a document: document_id, language, bytes (of the text that was scored), bits."""
    block = recipe.bits_per_byte
    if "corpus" not in inputs:
        raise BadInput("bits_per_byte needs the slot 'corpus': the mixture, whose held-out part it reads")
    documents = heldout_documents(inputs["corpus"].path, block)
    model, tokenizer = load_model(inputs["checkpoint"].path)
    bits = document_bits(
        model,
        tokenizer,
        [text for _, _, text in documents],
        block,
        lambda done, total: report.progress(done, total, "tokens"),
    )
    records = pa.table(
        {
            "document_id": [identity for identity, _, _ in documents],
            "language": [language for _, language, _ in documents],
            "bytes": pa.array([len(text.encode()) for _, _, text in documents], pa.int64()),
            "bits": pa.array(bits, pa.float64()),
        }
    )
    return Measurement(records, {"documents": len(documents)})


def heldout_documents(mixture: Path, recipe: BitsPerByteRecipe) -> list[tuple[str, str, str]]:
    """(document id, language, text) to score, within the recipe's caps, by language and then id.

    Raises BadInput if the mixture has no held-out documents.
    """
    path = mixture / HELDOUT_FILE
    if not path.is_file():
        raise BadInput(f"{path} does not exist; bits_per_byte reads the held-out documents of a mixture")
    table = pq.read_table(path, columns=["document_id", "language", "text"])
    chosen: list[tuple[str, str, str]] = []
    for language, rows in sorted(by_language(table).items()):
        left = recipe.bytes_per_language
        for row in sorted(rows, key=lambda row: row["document_id"]):
            text = _leading_bytes(row["text"], min(left, recipe.bytes_per_document))
            if not text:
                continue
            chosen.append((row["document_id"], language, text))
            left -= len(text.encode())
            if left < 64:  # a shorter rest says more about cut text than about the model
                break
    if not chosen:
        raise BadInput(f"{path} holds no text; raise the mixture's held-out rate or its corpus size")
    return chosen


def _leading_bytes(text: str, limit: int) -> str:
    """The longest start of `text` of at most `limit` UTF-8 bytes that ends between characters."""
    return text.encode()[:limit].decode("utf-8", errors="ignore")
