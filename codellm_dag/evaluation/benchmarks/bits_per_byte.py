"""Bits per byte on the held-out documents of the mixture, for each language.

The documents are those that no training stage has seen: ``heldout.parquet`` of the mixture, in order of
document id (a hash, so no source is preferred). How long texts are windowed is told in likelihood.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codellm_dag.evaluation.benchmarks.base import Measurement
from codellm_dag.evaluation.errors import BadInput
from codellm_dag.evaluation.intervals import interval_of_ratio
from codellm_dag.evaluation.likelihood import document_bits
from codellm_dag.evaluation.scores import Score
from codellm_dag.generation.loading import load_model
from codellm_dag.recipes.evaluation import BitsPerByteRecipe, ReportRecipe, SamplesRecipe
from codellm_dag.stages.protocol import Inputs, Report

HELDOUT_FILE = "heldout.parquet"


class BitsPerByte:
    """See the module's docstring; satisfies `Benchmark`."""

    name = "bits_per_byte"

    def measure(self, recipe: SamplesRecipe, inputs: Inputs, report: Report) -> Measurement:
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

    def scores(self, records: pa.Table, recipe: ReportRecipe) -> list[Score]:
        """``bits_per_byte/<language>``: all bits over all bytes; the interval resamples documents."""
        scores = []
        for language, rows in sorted(_by_language(records).items()):
            bits, sizes = [row["bits"] for row in rows], [row["bytes"] for row in rows]
            interval = interval_of_ratio(
                bits,
                sizes,
                confidence=recipe.confidence,
                resamples=recipe.bootstrap_resamples,
                seed=recipe.seed,
            )
            scores.append(
                Score(
                    benchmark=self.name,
                    metric=f"{self.name}/{language}",
                    estimator="sum of bits / sum of UTF-8 bytes over held-out documents",
                    value=math.fsum(bits) / sum(sizes),
                    ci_low=interval.low,
                    ci_high=interval.high,
                    confidence=recipe.confidence,
                    n=len(rows),
                    samples_per_problem=1,
                    judged_inside=0.0,
                    interval=interval.method,
                    higher_is_better=False,
                )
            )
        if not scores:
            raise BadInput("the records of bits_per_byte hold no document")
        return scores

    def breakdown(self, records: pa.Table) -> Sequence[dict[str, Any]]:
        """The documents that cost most, per byte."""
        rows = [{**row, "bits_per_byte": row["bits"] / row["bytes"]} for row in records.to_pylist()]
        rows.sort(key=lambda row: (-row["bits_per_byte"], row["document_id"]))
        return rows[:20]


def heldout_documents(mixture: Path, recipe: BitsPerByteRecipe) -> list[tuple[str, str, str]]:
    """(document id, language, text) to score, within the recipe's caps, by language and then id.

    Raises BadInput if the mixture has no held-out documents.
    """
    path = mixture / HELDOUT_FILE
    if not path.is_file():
        raise BadInput(f"{path} does not exist; bits_per_byte reads the held-out documents of a mixture")
    table = pq.read_table(path, columns=["document_id", "language", "text"])
    chosen: list[tuple[str, str, str]] = []
    for language, rows in sorted(_by_language(table).items()):
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


def _by_language(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        groups.setdefault(row["language"], []).append(row)
    return groups
