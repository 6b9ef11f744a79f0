"""Problems from the templates that microbench does not hold out: for `sft_data` and `rl_problems`."""

from __future__ import annotations

from codellm_dag.problems.microbench.family import TESTS, draw, to_problem
from codellm_dag.problems.schema import Problem
from codellm_dag.problems.split import check_disjoint, read_split
from codellm_dag.recipes.problems import StepWeights
from codellm_dag.stages.protocol import Inputs, Report


def training_problems(
    inputs: Inputs,
    report: Report,
    *,
    name: str,
    count: int,
    steps: StepWeights,
    seed: int,
    tests: int = TESTS,
) -> list[Problem]:
    """`count` problems called ``name/0…``, with at least `tests` tests each (0: none).

    None shares a template, prompt or solution with a problem of any benchmark in the slots ``benchmark/*``.
    Metrics: templates, compared_with (benchmark problems). Raises MissingBenchmarkError, ContaminationError.
    """
    benchmarks = inputs.many("benchmark")
    drawn = draw(
        read_split(benchmarks),
        "train",
        steps.weights(),
        count,
        seed,
        tests=tests,
        on_progress=lambda done, total: report.progress(done, total, "problems"),
    )
    width = len(str(len(drawn)))
    problems = [
        to_problem(rendered, chosen, f"{name}/{number:0{width}}", "train")
        for number, (rendered, chosen) in enumerate(drawn)
    ]
    compared = check_disjoint(problems, benchmarks)
    report.metric(templates=len({problem.template for problem in problems}), compared_with=compared)
    return problems
