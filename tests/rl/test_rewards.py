"""Rewards: only from verdicts formed outside; no verdict is no reward."""

from __future__ import annotations

import pytest

from codellm_dag.problems.grading import Grade
from codellm_dag.problems.schema import Call, Problem, Test
from codellm_dag.recipes.rl import RewardRecipe
from codellm_dag.rl.errors import NoReward
from codellm_dag.rl.rewards import check_rewardable, reward_of

FRACTION, ALL = RewardRecipe(kind="fraction"), RewardRecipe(kind="all_or_nothing")
TESTED = Problem(
    problem_id="a",
    benchmark="b",
    prompt="def f():\n",
    entry_point="f",
    reference="    return 1",
    tests=(Test(call=Call(), expected="1"),),
)


def test_fraction_and_all_or_nothing():
    partly, fully = Grade("fail", 3, 4, "outside"), Grade("pass", 4, 4, "outside")
    assert [reward_of(grade, True, FRACTION) for grade in (partly, fully)] == [0.75, 1.0]
    assert [reward_of(grade, True, ALL) for grade in (partly, fully)] == [0.0, 1.0]


def test_all_tests_passed_but_the_program_did_not_end_well_is_a_fail():
    assert reward_of(Grade("fail", 4, 4, "outside", "timeout"), True, ALL) == 0.0


def test_unfinished_answers():
    grade = Grade("pass", 4, 4, "outside")
    assert reward_of(grade, False, ALL) == 1.0
    assert reward_of(grade, False, RewardRecipe(unfinished="zero")) == 0.0


def test_an_infrastructure_error_is_no_reward_not_zero():
    grade = Grade("infrastructure_error", 0, 4, "outside")
    assert reward_of(grade, True, ALL) is None
    assert reward_of(grade, False, RewardRecipe(unfinished="zero")) is None


def test_inside_verdicts_are_refused():
    with pytest.raises(NoReward, match="inside the sandbox"):
        reward_of(Grade("pass", 1, 1, "inside"), True, ALL)
    forged = [TESTED.model_copy(update={"problem_id": f"p{i}", "inside_tests": "assert 1"}) for i in range(7)]
    with pytest.raises(NoReward, match=r"7 problem\(s\) have tests .* p0, p1, p2, p3, p4, …; give them"):
        check_rewardable([TESTED, *forged])


def test_problems_without_tests_and_no_problems_are_refused():
    with pytest.raises(NoReward, match=r"1 problem\(s\) have no tests: a"):
        check_rewardable([TESTED.model_copy(update={"tests": ()})])
    with pytest.raises(NoReward, match="holds no problem"):
        check_rewardable([])
    check_rewardable([TESTED])
