"""Advantage estimators against numbers worked out by hand and an independent token-level reference."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.rl import ESTIMATORS, RlRecipe
from codellm_dag.rl.advantages import ADVANTAGES, RolloutRewards, estimator


def test_rloo_by_hand():
    # Group 0: rewards 1, 0, 0, 1 -> others' means 1/3, 2/3, 2/3, 1/3. Group 1: 0.5 and 1 -> 1 and 0.5.
    batch = RolloutRewards.of([1, 0, 0.5, 0, 1, 1], [0, 0, 1, 0, 0, 1], [3, 1, 2, 9, 4, 5])
    expected = [2 / 3, -2 / 3, -0.5, -2 / 3, 2 / 3, 0.5]
    assert estimator("rloo")(batch) == pytest.approx(expected, abs=1e-15)


def test_rloo_of_a_single_response_is_its_reward_and_uniform_groups_are_zero():
    batch = RolloutRewards.of([0.75, 1, 1, 1], [5, 2, 2, 2], [1, 1, 1, 1])
    assert estimator("rloo")(batch).tolist() == [0.75, 0, 0, 0]


def test_reinforce_plus_plus_baseline_by_hand():
    # One group, rewards 1 and 0, lengths 1 and 3. Centred: 0.5 and -0.5. Over the 4 tokens the mean is
    # (0.5 - 1.5) / 4 = -0.25; squared deviations 0.75^2 + 3 * 0.25^2 = 0.75; Bessel 0.75 / 3 = 0.25; std 0.5.
    batch = RolloutRewards.of([1, 0], [0, 0], [1, 3])
    expected = [0.75 / 0.5, -0.25 / 0.5]
    assert estimator("reinforce_plus_plus_baseline")(batch) == pytest.approx(expected, rel=1e-6)


def test_reinforce_plus_plus_baseline_keeps_finite_where_nothing_varies():
    batch = RolloutRewards.of([1, 1, 0, 0], [0, 0, 1, 1], [2, 2, 2, 2])
    assert estimator("reinforce_plus_plus_baseline")(batch).tolist() == [0, 0, 0, 0]
    assert estimator("reinforce_plus_plus_baseline")(RolloutRewards.of([1], [0], [1])).tolist() == [0]


def _reference(name: str, rewards: list[float], groups: list[int], lengths: list[int]) -> list[float]:
    """Token by token with plain Python, as the formulas are printed."""
    by_group: dict[int, list[float]] = {}
    for reward, group in zip(rewards, groups, strict=True):
        by_group.setdefault(group, []).append(reward)
    if name == "rloo":
        result = []
        for reward, group in zip(rewards, groups, strict=True):
            n = len(by_group[group])
            mean = math.fsum(by_group[group]) / n
            result.append(reward if n == 1 else n / (n - 1) * (reward - mean))
        return result
    centred = [
        reward - (math.fsum(by_group[group]) / len(by_group[group]) if len(by_group[group]) > 1 else 0.0)
        for reward, group in zip(rewards, groups, strict=True)
    ]
    tokens = [value for value, length in zip(centred, lengths, strict=True) for _ in range(length)]
    mean = math.fsum(tokens) / len(tokens)
    variance = math.fsum((token - mean) ** 2 for token in tokens) / (len(tokens) - 1)
    return [(value - mean) / math.sqrt(variance + 1e-8) for value in centred]


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_random_batches_equal_the_reference(name: str):
    rng = random.Random(7)
    for _ in range(200):
        n = rng.randint(2, 40)
        rewards = [rng.choice([0.0, 1.0, 0.25, rng.random()]) for _ in range(n)]
        groups = [rng.randint(0, 6) for _ in range(n)]
        lengths = [rng.randint(1, 60) for _ in range(n)]
        ours = ADVANTAGES[name](RolloutRewards.of(rewards, groups, lengths))
        assert ours == pytest.approx(_reference(name, rewards, groups, lengths), abs=1e-9, rel=1e-9)
        assert ours.dtype == np.float64


def test_unknown_estimators_are_refused_with_the_allowed_names():
    with pytest.raises(InvalidRecipeError, match=r"'grpo' .*allowed: rloo, reinforce_plus_plus_baseline"):
        estimator("grpo")
    with pytest.raises(InvalidRecipeError, match=r"RlRecipe.estimator = 'grpo'.*allowed: rloo"):
        RlRecipe.parse({"estimator": "grpo"})


def test_the_recipe_and_the_table_name_the_same_estimators():
    assert tuple(ADVANTAGES) == ESTIMATORS


@pytest.mark.parametrize(
    ("rewards", "groups", "lengths", "message"),
    [
        ([1.0], [0, 1], [1], "one entry per response"),
        ([float("nan")], [0], [1], "finite"),
        ([1.0], [0], [0], "at least 1"),
    ],
)
def test_bad_batches_are_refused(rewards, groups, lengths, message):
    with pytest.raises(ValueError, match=message):
        RolloutRewards.of(rewards, groups, lengths)
