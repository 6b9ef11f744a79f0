"""Benchmarks, one file each. To add one: its file, a line in `BENCHMARKS`, its block in `SamplesRecipe`.

The table is written out (not discovered) so that the code digest of samples covers the benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from codellm_dag.evaluation.benchmarks.base import Benchmark
from codellm_dag.evaluation.benchmarks.bits_per_byte import BITS_PER_BYTE
from codellm_dag.evaluation.benchmarks.humaneval import HUMANEVAL
from codellm_dag.evaluation.benchmarks.microbench import MICROBENCH

BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {benchmark.name: benchmark for benchmark in (HUMANEVAL, MICROBENCH, BITS_PER_BYTE)}
)
"""All benchmarks by name."""

__all__ = ["BENCHMARKS", "Benchmark"]
