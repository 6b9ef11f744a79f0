"""Stage ``rl_problems``: problems with hidden tests for RL, from microbench's training half.

Templates may be those of ``sft_data``, but problems are drawn with another seed. All tests are data, judged
outside the sandbox. None shares a template, prompt or solution with a benchmark's problem.
"""

from __future__ import annotations

from pathlib import Path

from codellm_dag.problems.microbench.family import draw, to_problem
from codellm_dag.problems.schema import write_problems
from codellm_dag.problems.split import check_disjoint, read_split
from codellm_dag.recipes.problems import RlProblemsRecipe
from codellm_dag.stages.protocol import Inputs, Report


def run(recipe: RlProblemsRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Write the problems. Needs slot ``benchmark/microbench``; compares with every benchmark given.

    Metrics: problems, templates, compared_with (benchmark problems). Raises MissingBenchmarkError,
    ContaminationError.
    """
    benchmarks = inputs.many("benchmark")
    split = read_split(benchmarks)
    drawn = draw(
        split,
        "train",
        recipe.steps.weights(),
        recipe.problems,
        recipe.seed,
        on_progress=lambda done, total: report.progress(done, total, "problems"),
    )
    width = len(str(len(drawn)))
    problems = [
        to_problem(rendered, tests, f"rl/{number:0{width}}", "train")
        for number, (rendered, tests) in enumerate(drawn)
    ]
    compared = check_disjoint(problems, benchmarks)
    write_problems(out, problems)
    report.metric(
        problems=len(problems),
        templates=len({problem.template for problem in problems}),
        compared_with=compared,
    )
