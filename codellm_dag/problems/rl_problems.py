"""Stage ``rl_problems``: problems with hidden tests for RL, from microbench's training half.

Templates may be those of ``sft_data``, but problems are drawn with another seed. All tests are data, judged
outside the sandbox. None shares a template, prompt or solution with a benchmark's problem.
"""

from __future__ import annotations

from pathlib import Path

from codellm_dag.problems.schema import write_problems
from codellm_dag.problems.training_half import training_problems
from codellm_dag.recipes.problems import RlProblemsRecipe
from codellm_dag.stages.protocol import Inputs, Report


def run(recipe: RlProblemsRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Write the problems. Needs slot ``benchmark/microbench``; compares with every benchmark given.

    Metrics: problems, and those of `training_problems`, which also names the errors.
    """
    problems = training_problems(
        inputs, report, name="rl", count=recipe.problems, steps=recipe.steps, seed=recipe.seed
    )
    write_problems(out, problems)
    report.metric(problems=len(problems))
