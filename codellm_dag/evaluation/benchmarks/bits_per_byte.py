"""Bits per byte on the held-out documents of the mixture, for each language: how records become numbers.

Which documents are read and how long texts are windowed is told in measure_likelihood.py and likelihood.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from codellm_dag.evaluation.benchmarks.base import Kind
from codellm_dag.evaluation.errors import BadInput
from codellm_dag.evaluation.intervals import interval_of_ratio
from codellm_dag.evaluation.scores import Score
from codellm_dag.recipes.evaluation import ReportRecipe


class BitsPerByte:
    """See the module's docstring; satisfies `Benchmark`."""

    name = "bits_per_byte"
    kind: Kind = "likelihood"

    def scores(self, records: pa.Table, recipe: ReportRecipe) -> list[Score]:
        """``bits_per_byte/<language>``: all bits over all bytes; the interval resamples documents."""
        scores = []
        for language, rows in sorted(by_language(records).items()):
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


def by_language(table: pa.Table) -> dict[str, list[dict[str, Any]]]:
    """The rows of each language, in the table's order."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        groups.setdefault(row["language"], []).append(row)
    return groups


BITS_PER_BYTE = BitsPerByte()
