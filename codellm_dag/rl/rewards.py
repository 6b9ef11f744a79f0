"""Rewards from tests that were judged outside the sandbox. A sample without verdict has no reward, not 0."""

from __future__ import annotations

from collections.abc import Sequence

from codellm_dag.problems.grading import Grade
from codellm_dag.problems.schema import Problem
from codellm_dag.recipes.rl import RewardRecipe
from codellm_dag.rl.errors import NoReward


def check_rewardable(problems: Sequence[Problem]) -> None:
    """Refuse problems that cannot reward: none at all, without tests, or with tests judged inside.

    A verdict formed in the process that ran the code can be forged by that code, and a policy would learn to.
    Raises NoReward naming up to five problems.
    """
    if not problems:
        raise NoReward("the artifact in slot 'problems' holds no problem; RL needs at least one with tests")
    inside = [problem.problem_id for problem in problems if problem.inside_tests]
    if inside:
        raise NoReward(
            f"{len(inside)} problem(s) have tests that are judged inside the sandbox, where a program can "
            f"forge its verdict: {_some(inside)}; give them tests as data, or leave them out"
        )
    untested = [problem.problem_id for problem in problems if not problem.tests]
    if untested:
        raise NoReward(f"{len(untested)} problem(s) have no tests: {_some(untested)}; leave them out")


def reward_of(grade: Grade, finished: bool, recipe: RewardRecipe) -> float | None:
    """The reward, 0 to 1, or None where the sandbox failed. `finished`: the model ended its answer itself.

    Raises NoReward for a grade judged inside.
    """
    if grade.judged != "outside":
        raise NoReward("a verdict from inside the sandbox is no reward: the program could have forged it")
    if grade.verdict == "infrastructure_error":
        return None
    if not finished and recipe.unfinished == "zero":
        return 0.0
    if recipe.kind == "fraction":
        return grade.passed / grade.total
    return 1.0 if grade.verdict == "pass" else 0.0


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
