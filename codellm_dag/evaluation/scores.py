"""A score: one number with everything needed to judge it, as written to ``scores.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codellm_dag.evaluation.errors import BadInput

SCORES_FILE = "scores.json"


@dataclass(frozen=True)
class Score:
    """One row of ``scores.json``.

    ``metric``: "pass@1", "bits_per_byte/python", …. ``estimator``: how the value is estimated; ``interval``:
    how its bounds are (None where one unit allows none). ``n``: units the interval is over (problems or
    documents). ``samples_per_problem``: fewest judged samples of a problem (1 for likelihoods).
    ``judged_inside``: share of samples whose verdict came from inside the sandbox, where it can be forged.
    ``infrastructure_errors``: samples without verdict, left out. ``higher_is_better``: for comparisons.
    """

    benchmark: str
    metric: str
    estimator: str
    value: float
    ci_low: float | None
    ci_high: float | None
    confidence: float
    n: int
    samples_per_problem: int
    judged_inside: float
    interval: str
    infrastructure_errors: int = 0
    higher_is_better: bool = True


def write_scores(folder: Path, scores: Sequence[Score]) -> None:
    """Write ``scores.json``: a list of rows in the given order."""
    text = json.dumps([asdict(score) for score in scores], indent=1, sort_keys=True, allow_nan=False)
    (folder / SCORES_FILE).write_text(text + "\n", encoding="utf-8")


def read_scores(folder: Path) -> list[Score]:
    """The rows of ``scores.json``. Raises BadInput for a missing file or a row that is not a score."""
    path = folder / SCORES_FILE
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return [Score(**row) for row in rows]
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path} is not a list of scores as eval_report writes it: {error}") from error
