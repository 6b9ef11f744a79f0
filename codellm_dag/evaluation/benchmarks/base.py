"""The protocol of benchmarks: measure a model into one record a sample (or document), then score those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from codellm_dag.evaluation.scores import Score
from codellm_dag.recipes.evaluation import ReportRecipe, SamplesRecipe
from codellm_dag.stages.protocol import Inputs, Report


@dataclass(frozen=True)
class Measurement:
    """``records``: the table written to samples.parquet. ``summary``: facts about how it was measured."""

    records: pa.Table
    summary: dict[str, Any]


class Benchmark(Protocol):
    """One benchmark. `measure` needs the model and the sandbox; the other two read only the records."""

    @property
    def name(self) -> str:
        """The name in recipes and partition keys."""
        ...

    def measure(self, recipe: SamplesRecipe, inputs: Inputs, report: Report) -> Measurement:
        """Run the model in ``inputs["checkpoint"]``. Raises EvaluationError with what to do about it."""
        ...

    def scores(self, records: pa.Table, recipe: ReportRecipe) -> list[Score]:
        """The numbers that these records give. Raises BadInput for records without a usable row."""
        ...

    def breakdown(self, records: pa.Table) -> Sequence[dict[str, Any]]:
        """A small table (at most 100 rows) that shows where the number comes from."""
        ...
