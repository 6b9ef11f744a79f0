"""microbench: the held-out half, whose templates no training stage has seen; levels are steps."""

from __future__ import annotations

from codellm_dag.evaluation.benchmarks.code import CodeBenchmark

SEPARATOR = ">"
"""Between the steps of a template's name, e.g. ``sort > drop_first``."""


def steps_of(template: str) -> str:
    """The level of a problem: how many steps its function chains."""
    count = template.count(SEPARATOR) + 1
    return f"{count} step" if count == 1 else f"{count} steps"


MICROBENCH = CodeBenchmark(
    name="microbench",
    block=lambda recipe: recipe.microbench,
    selects=lambda problem: problem.benchmark == "microbench" and problem.split == "heldout",
    level=steps_of,
)
