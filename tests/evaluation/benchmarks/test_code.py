"""From records to pass@k, by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
import pytest

from codellm_dag.evaluation.benchmarks import BENCHMARKS
from codellm_dag.evaluation.benchmarks.microbench import MICROBENCH, steps_of
from codellm_dag.evaluation.errors import BadInput
from codellm_dag.evaluation.sampling import RECORD_SCHEMA
from codellm_dag.recipes.evaluation import BENCHMARKS as NAMES
from codellm_dag.recipes.evaluation import ReportRecipe, SamplesRecipe
from tests.evaluation.conftest import code_problem


def records(verdicts: dict[str, str], judged: str = "outside", template: str = "") -> pa.Table:
    """Records from problem -> letters: p pass, f fail, i infrastructure error."""
    words = {"p": "pass", "f": "fail", "i": "infrastructure_error"}
    rows: list[dict[str, Any]] = [
        {
            "problem_id": name,
            "template": template,
            "sample_index": index,
            "verdict": words[letter],
            "judged": judged,
        }
        for name, letters in verdicts.items()
        for index, letter in enumerate(letters)
    ]
    return pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)


def test_scores_by_hand():
    one, five = MICROBENCH.scores(records({"a": "ppffffffff", "b": "ffffffffff"}), ReportRecipe())
    assert (one.metric, one.value, one.n, one.samples_per_problem) == ("pass@1", 0.1, 2, 10)
    # a: 1 - C(8,5)/C(10,5) = 1 - 56/252; b: 0.
    assert (five.metric, five.value) == ("pass@5", pytest.approx((1 - 56 / 252) / 2))
    assert one.judged_inside == 0
    assert one.higher_is_better
    assert one.ci_low is not None
    assert one.ci_high is not None
    assert one.ci_low <= one.value <= one.ci_high
    assert "Chen et al. 2021" in one.estimator


def test_pass_at_k_equals_drawing_k_of_the_recorded_samples():
    letters = {"a": "pfffp", "b": "ffffp", "c": "fffff"}
    (score,) = MICROBENCH.scores(records(letters), ReportRecipe(pass_at=[3]))
    draws = [["p" in draw for draw in itertools.combinations(outcome, 3)] for outcome in letters.values()]
    assert score.value == pytest.approx(sum(sum(drawn) / len(drawn) for drawn in draws) / 3)


def test_infrastructure_errors_are_left_out_not_scored_zero():
    one, five = MICROBENCH.scores(records({"a": "pppii", "b": "fffff", "c": "iiiii"}), ReportRecipe())
    # a passed all three judged samples, c has no verdict at all.
    assert (one.value, one.n, one.infrastructure_errors) == (0.5, 2, 7)
    assert (five.value, five.n) == (0.0, 1)


def test_one_greedy_sample_gives_pass_at_1_and_wilson():
    (score,) = BENCHMARKS["humaneval"].scores(records({"a": "f", "b": "f"}), ReportRecipe())
    assert (score.metric, score.value, score.ci_low) == ("pass@1", 0.0, 0.0)
    # Wilson at 0 of 2: z^2 / (2 + z^2).
    assert score.ci_high == pytest.approx(3.841459 / 5.841459, rel=1e-6)


def test_inside_verdicts_are_counted():
    mixed = pa.concat_tables([records({"a": "p"}, judged="inside"), records({"b": "pp", "c": "f"})])
    assert MICROBENCH.scores(mixed, ReportRecipe(pass_at=[1]))[0].judged_inside == 0.25


def test_records_without_verdicts_or_enough_samples_are_refused():
    with pytest.raises(BadInput, match="no sample with a verdict"):
        MICROBENCH.scores(records({"a": "ii"}), ReportRecipe())
    with pytest.raises(BadInput, match=r"pass_at = \[5\] asks for more samples than the 2"):
        MICROBENCH.scores(records({"a": "pf"}), ReportRecipe(pass_at=[5]))


def test_breakdown_by_steps():
    table = pa.concat_tables(
        [
            records({"a": "pf", "b": "ffi"}, template="sort"),
            records({"c": "ff", "d": "pp"}, template="sort > double > last"),
        ]
    )
    assert MICROBENCH.breakdown(table) == [
        {"level": "1 step", "problems": 2, "samples": 4, "pass_rate": 0.25, "solved_at_least_once": 0.5},
        {"level": "3 steps", "problems": 2, "samples": 4, "pass_rate": 0.5, "solved_at_least_once": 0.5},
    ]
    assert [row["level"] for row in BENCHMARKS["humaneval"].breakdown(table)] == ["all"]
    assert (steps_of("a > b"), steps_of("a")) == ("2 steps", "1 step")


def test_benchmarks_select_their_problems_and_blocks():
    recipe = SamplesRecipe()
    assert tuple(BENCHMARKS) == NAMES
    assert MICROBENCH.block(recipe) == recipe.microbench
    assert MICROBENCH.selects(code_problem("f"))
    assert not MICROBENCH.selects(code_problem("f", split="train"))
    assert not MICROBENCH.selects(code_problem("f", benchmark="humaneval"))
