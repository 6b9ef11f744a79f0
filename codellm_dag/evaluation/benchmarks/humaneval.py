"""HumanEval (Chen et al. 2021): all 164 problems, asserts turned into calls and expected values."""

from __future__ import annotations

from codellm_dag.evaluation.benchmarks.code import CodeBenchmark

HUMANEVAL = CodeBenchmark(
    name="humaneval",
    block=lambda recipe: recipe.humaneval,
    selects=lambda problem: problem.benchmark == "humaneval",
)
