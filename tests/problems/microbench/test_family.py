"""The family as a whole: halves that share nothing, references that pass, near-misses that fail."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from codellm_dag.problems.microbench.family import Split, draw, to_problem
from codellm_dag.problems.microbench.pipelines import is_heldout, random_template, render
from codellm_dag.problems.microbench.primitives import BOOL, PRIMITIVES
from codellm_dag.problems.microbench.testing import UnusableProblemError, choose_tests, near_misses
from codellm_dag.problems.schema import Problem

SPLIT = Split(seed=0, heldout_fraction=0.5)
STEPS = {2: 0.4, 3: 0.4, 4: 0.2}


@pytest.fixture(scope="module")
def heldout() -> list[Problem]:
    drawn = draw(SPLIT, "heldout", STEPS, 60, 0, one_per_template=True)
    return [to_problem(rendered, tests, f"m/{n}", "heldout") for n, (rendered, tests) in enumerate(drawn)]


def passes(problem: Problem, source: str) -> bool:
    """Whether `source` passes; only for generated, trusted source."""
    namespace: dict[str, object] = {}
    exec(problem.prompt + source, namespace)
    function = namespace[problem.entry_point]
    results = [repr(function(*map(eval, test.call.args))) for test in problem.tests]  # type: ignore[operator]
    return results == [test.expected for test in problem.tests]


def test_references_pass_and_empty_bodies_fail(heldout: list[Problem]) -> None:
    for problem in heldout:
        assert passes(problem, problem.reference)
        assert not passes(problem, "    return None\n")
        assert len(problem.tests) >= 8


def test_returning_the_argument_or_a_constant_fails(heldout: list[Problem]) -> None:
    for problem in heldout:
        argument = problem.prompt.partition("(")[2].partition(":")[0]
        assert not passes(problem, f"    return {argument}\n")
        for expected, _ in Counter(test.expected for test in problem.tests).most_common(1):
            assert not passes(problem, f"    return {expected}\n")


def test_near_misses_fail_unless_no_input_tells_them_apart() -> None:
    caught = total = 0
    for rendered, tests in draw(SPLIT, "heldout", STEPS, 30, 5, one_per_template=True):
        problem = to_problem(rendered, tests, "m", "heldout")
        for dropped, source in near_misses(rendered, random.Random(1)):
            try:
                fails = not passes(problem, source)
            except (ValueError, IndexError, TypeError, ZeroDivisionError):
                fails = True
            assert fails or not dropped, (rendered.reference, source)
            caught += fails
            total += 1
    # The others are the same function in other words, e.g. `sort` after `sort-down` before `sum`.
    assert caught / total > 0.9


def test_halves_share_no_template_nor_set_of_primitives() -> None:
    rng = random.Random(0)
    templates = {random_template(rng, steps) for steps in (1, 2, 3, 4) for _ in range(3000)}
    halves = {half: [t for t in templates if SPLIT.half(t) == half] for half in ("train", "heldout")}
    sets = {half: {frozenset(template) for template in listed} for half, listed in halves.items()}
    assert not sets["train"] & sets["heldout"]
    longer = [template for template in templates if len(template) > 1]
    assert 0.45 < len(halves["heldout"]) / len(longer) < 0.55


def test_every_primitive_is_in_the_training_half() -> None:
    assert not any(is_heldout((key,), 0, 0.5) for key in PRIMITIVES)
    drawn = draw(SPLIT, "train", {1: 0.35, 2: 0.35, 3: 0.3}, 4000, 1)
    assert {key for rendered, _ in drawn for key in rendered.template} >= {
        key for key in PRIMITIVES if not key.startswith("if-")
    }


def test_another_seed_splits_otherwise() -> None:
    rng = random.Random(0)
    templates = {random_template(rng, 2) for _ in range(500)}
    assert {t for t in templates if is_heldout(t, 0, 0.5)} != {t for t in templates if is_heldout(t, 1, 0.5)}
    assert not any(is_heldout(template, 0, 1e-9) for template in templates)


def test_problems_are_distinct_and_repeatable() -> None:
    drawn = draw(SPLIT, "heldout", STEPS, 60, 0, one_per_template=True)
    assert drawn == draw(SPLIT, "heldout", STEPS, 60, 0, one_per_template=True)
    assert len({rendered.template for rendered, _ in drawn}) == 60
    assert len({rendered.prompt for rendered, _ in draw(SPLIT, "train", {1: 1.0}, 300, 0)}) == 300


def test_types_fit_and_truth_values_come_last() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        chain = [PRIMITIVES[key] for key in random_template(rng, rng.randint(1, 4))]
        for left, right in pairwise(chain):
            assert left.target == right.source
            assert left.target != BOOL
            assert not left.group or left.group != right.group


def test_a_step_without_effect_is_refused() -> None:
    rendered = render(("sort", "sum"), random.Random(0))
    with pytest.raises(UnusableProblemError, match="a step has no effect"):
        choose_tests(rendered, random.Random(0), 8)


def test_too_many_problems_are_refused() -> None:
    message = "different problems of 400 were found in the half 'train' with steps"
    with pytest.raises(ValueError, match=message):
        draw(SPLIT, "train", {1: 1.0}, 400, 0, one_per_template=True)
