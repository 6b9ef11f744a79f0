"""Stage samples: one model on one benchmark, one record a sample, judged outside the sandbox that ran it.

Writes ``samples.parquet`` (columns: `sampling.RECORD_SCHEMA`, or document_id, language, bytes, bits) and
``samples.json`` (how it was measured). Numbers are computed from them by eval_report.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import torch

from codellm_dag.evaluation.benchmarks import BENCHMARKS
from codellm_dag.evaluation.benchmarks.code import CodeBenchmark
from codellm_dag.evaluation.measure_code import measure_code
from codellm_dag.evaluation.measure_likelihood import measure_likelihood
from codellm_dag.evaluation.records import SAMPLES_FILE, SUMMARY_FILE
from codellm_dag.recipes.evaluation import SamplesRecipe
from codellm_dag.stages.protocol import Inputs, Report


def run(recipe: SamplesRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Measure ``inputs["checkpoint"]`` on ``recipe.benchmark``. Raises EvaluationError with what to do."""
    torch.set_num_threads(report.runtime.threads)
    benchmark = BENCHMARKS[recipe.benchmark]
    if isinstance(benchmark, CodeBenchmark):
        measured = measure_code(benchmark, recipe, inputs, report)
    else:
        measured = measure_likelihood(recipe, inputs, report)
    pq.write_table(measured.records, out / SAMPLES_FILE, compression="zstd")
    summary = {"benchmark": recipe.benchmark, **measured.summary}
    (out / SUMMARY_FILE).write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    plain = {name: value for name, value in summary.items() if isinstance(value, (str, int, float))}
    report.metric(records=measured.records.num_rows, **plain)
