"""What benchmarks of problems with tests share: how records become pass@k (measure_code.py makes them)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pyarrow as pa

from codellm_dag.evaluation.benchmarks.base import Kind
from codellm_dag.evaluation.errors import BadInput
from codellm_dag.evaluation.intervals import interval_of_mean
from codellm_dag.evaluation.metrics import pass_at_k
from codellm_dag.evaluation.scores import Score
from codellm_dag.problems.schema import Problem
from codellm_dag.recipes.evaluation import ReportRecipe, SamplesRecipe, SamplingRecipe


def _one_group(template: str) -> str:
    del template
    return "all"


@dataclass(frozen=True)
class CodeBenchmark:
    """A benchmark of problems with tests; satisfies `Benchmark`.

    ``block``: its part of the samples recipe. ``selects``: which problems of the artifact belong to it.
    ``level``: the row of the breakdown that a problem's template counts in.
    """

    name: str
    block: Callable[[SamplesRecipe], SamplingRecipe]
    selects: Callable[[Problem], bool]
    level: Callable[[str], str] = _one_group
    kind: Kind = "code"

    def scores(self, records: pa.Table, recipe: ReportRecipe) -> list[Score]:
        """pass@k for each k that the samples allow; a problem without k verdicts is left out."""
        counts, errors, inside = _counts(records)
        judged = [n for n, _ in counts.values() if n]
        if not judged:
            raise BadInput(f"the records of {self.name} hold no sample with a verdict")
        samples = max(judged)
        scores = []
        for k in recipe.pass_at:
            values = [pass_at_k(n, c, k) for n, c in counts.values() if n >= k]
            if not values:
                continue
            interval = interval_of_mean(
                values,
                confidence=recipe.confidence,
                resamples=recipe.bootstrap_resamples,
                seed=recipe.seed,
            )
            scores.append(
                Score(
                    benchmark=self.name,
                    metric=f"pass@{k}",
                    estimator=f"mean over problems of the unbiased pass@{k} (Chen et al. 2021)",
                    value=fmean(values),
                    ci_low=interval.low,
                    ci_high=interval.high,
                    confidence=recipe.confidence,
                    n=len(values),
                    samples_per_problem=samples,
                    judged_inside=inside,
                    interval=interval.method,
                    infrastructure_errors=errors,
                )
            )
        if not scores:
            raise BadInput(
                f"pass_at = {recipe.pass_at} asks for more samples than the {samples} a problem has; add a "
                f"k of at most {samples}, or draw more samples"
            )
        return scores

    def breakdown(self, records: pa.Table) -> Sequence[dict[str, Any]]:
        """Pass rate and share of problems ever solved, per level."""
        levels: dict[str, dict[str, list[bool]]] = {}
        for row in records.to_pylist():
            if row["verdict"] != "infrastructure_error":
                problems = levels.setdefault(self.level(row["template"]), {})
                problems.setdefault(row["problem_id"], []).append(row["verdict"] == "pass")
        return [
            {
                "level": level,
                "problems": len(problems),
                "samples": sum(map(len, problems.values())),
                "pass_rate": fmean(fmean(passed) for passed in problems.values()),
                "solved_at_least_once": fmean(any(passed) for passed in problems.values()),
            }
            for level, problems in sorted(levels.items())
        ][:100]


def _counts(records: pa.Table) -> tuple[dict[str, tuple[int, int]], int, float]:
    """Per problem (samples with a verdict, of them passing); samples without one; share judged inside."""
    counts: dict[str, tuple[int, int]] = {}
    errors = inside = total = 0
    for row in records.select(["problem_id", "verdict", "judged"]).to_pylist():
        n, c = counts.get(row["problem_id"], (0, 0))
        verdict = row["verdict"]
        errors += verdict == "infrastructure_error"
        if verdict != "infrastructure_error":
            n, c, total, inside = (
                n + 1,
                c + (verdict == "pass"),
                total + 1,
                inside + (row["judged"] == "inside"),
            )
        counts[row["problem_id"]] = (n, c)
    return counts, errors, inside / total if total else 0.0
