"""Rollout batches: order of problems, groups, advantages, the cache of grades, statistics."""

from __future__ import annotations

import pytest

from codellm_dag.generation import Completion
from codellm_dag.problems.grading import Grade
from codellm_dag.problems.schema import Call, Problem, Test
from codellm_dag.recipes.rl import RlRecipe
from codellm_dag.rl.rollouts import (
    make_groups,
    problems_of_step,
    rollout_statistics,
    seed_of_step,
    with_advantages,
)

PASS, FAIL = Grade("pass", 2, 2, "outside"), Grade("fail", 1, 2, "outside")
BROKEN = Grade("infrastructure_error", 0, 2, "outside")
RECIPE = RlRecipe()


def problem(name: str) -> Problem:
    return Problem(
        problem_id=name,
        benchmark="b",
        prompt=f"def {name}():\n",
        entry_point=name,
        reference="    pass",
        tests=(Test(call=Call(), expected="1"),),
    )


def completion(text: str, *logprobs: float, finished: bool = True) -> Completion:
    return Completion(tuple(range(len(logprobs))), text, logprobs, finished)


def groups_of(table: dict[str, list[tuple[str, Completion]]], recipe: RlRecipe = RECIPE):
    """Groups from problem -> [(outcome, completion)]; the outcome is the whole program."""
    outcomes = {"pass": PASS, "fail": FAIL, "broken": BROKEN}
    texts = iter([outcome for rows in table.values() for outcome, _ in rows])
    return make_groups(
        [problem(name) for name in table],
        [(1, 2)] * len(table),
        [[sample for _, sample in rows] for rows in table.values()],
        lambda _problem, _text: next(texts),
        lambda pairs: [outcomes[source] for _, source in pairs],
        recipe,
    )


def test_every_epoch_visits_each_problem_once_in_another_order():
    steps = [problems_of_step(10, 4, step, seed=3) for step in range(5)]
    flat = [index for step in steps for index in step]
    assert sorted(flat[:10]) == sorted(flat[10:20]) == list(range(10))
    assert flat[:10] != flat[10:20]
    assert problems_of_step(10, 4, 2, seed=3) == steps[2]
    assert problems_of_step(10, 4, 2, seed=4) != steps[2]
    assert problems_of_step(1, 3, 0, seed=0) == [0, 0, 0]


def test_step_seeds_differ_and_stay():
    seeds = {seed_of_step(0, step) for step in range(100)} | {seed_of_step(1, step) for step in range(100)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**31 for seed in seeds)
    # From sha256("rl rollouts/0/0") by `printf 'rl rollouts/0/0' | sha256sum`: its first four bytes.
    assert seed_of_step(0, 0) == SEED_0_0


SEED_0_0 = int.from_bytes(bytes.fromhex("80044790"), "little") >> 1


def test_rewards_and_advantages_of_a_mixed_group():
    groups = groups_of(
        {
            "a": [
                ("pass", completion("x", -1.0, -2.0)),
                ("fail", completion("y", -3.0)),
                ("fail", completion("z", -0.5, -0.5, -0.5)),
            ]
        }
    )
    (trained,) = with_advantages(groups, RECIPE)
    assert trained.advantages == (1.0, -0.5, -0.5)
    assert trained.tokens.prompt == (1, 2)
    assert trained.tokens.responses == ((0, 1), (0,), (0, 1, 2))
    assert trained.sampled_logprobs == ((-1.0, -2.0), (-3.0,), (-0.5, -0.5, -0.5))


def test_a_sample_without_verdict_leaves_its_group_smaller():
    one = completion("x", -1.0)
    groups = groups_of(
        {
            "a": [("pass", one), ("broken", one), ("fail", one), ("fail", one)],
            "b": [("pass", one), ("broken", one), ("broken", one), ("broken", one)],
        }
    )
    (trained,) = with_advantages(groups, RECIPE)
    # The baseline of the passing sample is the mean of the other two, not of three with a 0.
    assert trained.advantages == (1.0, -0.5, -0.5)
    statistics = rollout_statistics(groups)
    assert statistics["infrastructure_errors"] == 4
    assert statistics["reward"] == 2 / 4
    assert statistics["mixed_group_share"] == 0.5


def test_uniform_groups_are_skipped_or_kept_as_the_recipe_says():
    one = completion("x", -1.0)
    groups = groups_of(
        {"a": [("pass", one), ("pass", one)], "b": [("fail", one)] * 2, "c": [("pass", one), ("fail", one)]}
    )
    assert [t.advantages for t in with_advantages(groups, RECIPE)] == [(1.0, -1.0)]
    everything = RlRecipe(skip_uniform_groups=False)
    assert [t.advantages for t in with_advantages(groups, everything)] == [(0, 0), (0, 0), (1, -1)]
    assert with_advantages(groups[:2], RECIPE) == []


def test_fraction_rewards_make_finer_groups():
    one = completion("x", -1.0)
    recipe = RlRecipe.parse({"reward": {"kind": "fraction"}})
    (group,) = groups_of({"a": [("pass", one), ("fail", one)]}, recipe)
    assert [sample.reward for sample in group.samples] == [1.0, 0.5]


def test_statistics_by_hand():
    groups = groups_of(
        {
            "a": [("pass", completion("x", -1.0, -2.0)), ("fail", completion("y", -3.0, finished=False))],
            "b": [("fail", completion("x", -6.0)), ("fail", completion("y", -1.0, -1.0))],
        }
    )
    assert rollout_statistics(groups) == {
        "entropy": pytest.approx(14.0 / 6),
        "response_tokens": 6 / 4,
        "unfinished_share": 0.25,
        "mixed_group_share": 0.5,
        "infrastructure_errors": 0.0,
        "reward": 0.25,
        "pass_rate": 0.25,
    }


def test_statistics_without_any_reward_leave_it_out():
    statistics = rollout_statistics(groups_of({"a": [("broken", completion("x", -1.0))] * 2}))
    assert "reward" not in statistics
    assert statistics["infrastructure_errors"] == 2
