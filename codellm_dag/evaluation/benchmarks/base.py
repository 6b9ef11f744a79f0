"""The protocol of benchmarks: what records of samples (or documents) say. Light: no model, no sandbox.

How records are made depends on the kind only: measure_code.py and measure_likelihood.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pyarrow as pa

from codellm_dag.evaluation.scores import Score
from codellm_dag.recipes.evaluation import ReportRecipe

Kind = Literal["code", "likelihood"]
"""code: programs are sampled and run against tests. likelihood: texts are scored."""


@dataclass(frozen=True)
class Measurement:
    """``records``: the table written to samples.parquet. ``summary``: facts about how it was measured."""

    records: pa.Table
    summary: dict[str, Any]


class Benchmark(Protocol):
    """One benchmark."""

    @property
    def name(self) -> str:
        """The name in recipes and partition keys."""
        ...

    @property
    def kind(self) -> Kind:
        """How its records are made."""
        ...

    def scores(self, records: pa.Table, recipe: ReportRecipe) -> list[Score]:
        """The numbers that these records give. Raises BadInput for records without a usable row."""
        ...

    def breakdown(self, records: pa.Table) -> Sequence[dict[str, Any]]:
        """A small table (at most 100 rows) that shows where the number comes from."""
        ...
