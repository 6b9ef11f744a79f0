"""Stage ``benchmark_problems``: the problems of one benchmark as ``problems.jsonl``.

``humaneval`` comes from the installed package, ``microbench`` is generated (its held-out half, one problem a
template; ``split.json`` beside it says which templates are held out). References are not run here; the
evaluation runs them before it scores.
"""

from __future__ import annotations

from pathlib import Path

from codellm_dag.problems.humaneval import humaneval_problems
from codellm_dag.problems.microbench.family import BENCHMARK, Split, draw, to_problem
from codellm_dag.problems.schema import Problem, write_problems
from codellm_dag.problems.split import write_split
from codellm_dag.recipes.problems import BenchmarkRecipe
from codellm_dag.stages.protocol import Inputs, Report


def run(recipe: BenchmarkRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Write the problems of ``recipe.benchmark``.

    Metrics: problems, tests, inside_judged (problems with tests that only the sandbox can judge).
    """
    del inputs
    if recipe.benchmark == BENCHMARK:
        problems = _microbench(recipe, out, report)
    else:
        workers = report.runtime.workers
        problems = humaneval_problems(workers, lambda done, all_: report.progress(done, all_, "problems"))
    if recipe.maximum_problems:
        problems = sorted(problems, key=lambda problem: problem.problem_id)[: recipe.maximum_problems]
    write_problems(out, problems)
    report.metric(
        problems=len(problems),
        tests=sum(len(problem.tests) for problem in problems),
        inside_judged=sum(bool(problem.inside_tests) for problem in problems),
    )


def _microbench(recipe: BenchmarkRecipe, out: Path, report: Report) -> list[Problem]:
    split = Split(recipe.microbench_seed, recipe.heldout_fraction)
    write_split(out, split)
    drawn = draw(
        split,
        "heldout",
        recipe.microbench_steps.weights(),
        recipe.microbench_problems,
        recipe.microbench_seed,
        one_per_template=True,
        on_progress=lambda done, total: report.progress(done, total, "problems"),
    )
    width = len(str(len(drawn)))
    return [
        to_problem(rendered, tests, f"{BENCHMARK}/{number:0{width}}", "heldout")
        for number, (rendered, tests) in enumerate(drawn)
    ]
