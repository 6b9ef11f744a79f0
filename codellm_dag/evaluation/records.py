"""The files between the stages samples and eval_report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codellm_dag.evaluation.benchmarks import BENCHMARKS
from codellm_dag.evaluation.errors import BadInput

SAMPLES_FILE = "samples.parquet"
SUMMARY_FILE = "samples.json"


def read_samples(folder: Path) -> tuple[dict[str, Any], pa.Table]:
    """The summary and records that the samples stage wrote. Raises BadInput if they are not there."""
    try:
        summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        records = pq.read_table(folder / SAMPLES_FILE)
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder} does not hold {SUMMARY_FILE} and {SAMPLES_FILE}: {error}") from error
    if summary.get("benchmark") not in BENCHMARKS:
        raise BadInput(
            f"{folder / SUMMARY_FILE}: benchmark = {summary.get('benchmark')!r} is not known; allowed: "
            f"{', '.join(BENCHMARKS)}"
        )
    return summary, records
