"""What the checks call wrong."""

import math

import pytest

from assets.checks import loss_problems, score_problems
from codellm_dag.evaluation.scores import Score


def score(**changes) -> Score:
    values = {
        "benchmark": "microbench",
        "metric": "pass@1",
        "estimator": "unbiased",
        "value": 0.5,
        "ci_low": 0.4,
        "ci_high": 0.6,
        "confidence": 0.95,
        "n": 20,
        "samples_per_problem": 10,
        "judged_inside": 0.0,
        "interval": "bootstrap",
    }
    return Score(**{**values, **changes})


def test_a_loss_that_falls_is_right_even_if_it_is_noisy():
    assert loss_problems([(step, 5 - step / 30 + (-1) ** step) for step in range(100)]) == []


def test_a_loss_that_rises_at_the_end_is_told_with_its_means():
    rising = [(step, 2.0) for step in range(90)] + [(step, 3.0) for step in range(90, 100)]
    assert loss_problems(rising) == ["the loss went from 2 to 3; it must fall"]


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_a_loss_that_is_no_number_is_told(bad):
    assert loss_problems([(0, 3.0), (1, bad), (2, 1.0)]) == ["the loss is not a finite number at some step"]


def test_no_curve_is_not_a_pass():
    assert loss_problems([(0, 3.0)]) == ["the loss curve has 1 points; at least 2 are needed"]


def test_a_good_score():
    assert score_problems(score()) == []
    assert score_problems(score(ci_low=None, ci_high=None)) == []
    assert score_problems(score(metric="bits_per_byte/python", value=2.5, ci_low=2.0, ci_high=3.0)) == []
    assert score_problems(score(infrastructure_errors=10)) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"n": 0, "samples_per_problem": 0}, "rests on n = 0"),
        ({"value": 0.7}, "value 0.7 is outside its interval [0.4, 0.6]"),
        ({"value": 1.2, "ci_high": 1.3}, "pass rate 1.2 is not between 0 and 1"),
        ({"infrastructure_errors": 11}, "11 samples have no verdict, beside 200 that have one"),
    ],
)
def test_a_bad_score(changes, problem):
    (found,) = score_problems(score(**changes))
    assert found.startswith(problem)
