"""No score without references that pass in the same sandbox."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from codellm_dag.evaluation.errors import BadInput, InfrastructureFailed, ReferenceFailed
from codellm_dag.evaluation.references import check_references
from codellm_dag.problems.grading import Attempt, Grade, open_sandbox
from codellm_dag.recipes.execution import ExecutionRecipe
from tests.evaluation.conftest import code_problem

GOOD = [code_problem("f"), code_problem("g")]
BAD = code_problem("bad", reference="    return x\n")


def test_passing_references_let_all_problems_through():
    with open_sandbox(ExecutionRecipe(), workers=1) as grade:
        assert check_references(GOOD, [], grade) == GOOD


def test_a_failing_reference_stops_the_evaluation_and_is_named():
    with (
        open_sandbox(ExecutionRecipe(), workers=1) as grade,
        pytest.raises(ReferenceFailed, match=r"bad \(0 of 2 tests; call 0 gave .*known_reference_failures"),
    ):
        check_references([*GOOD, BAD], [], grade)


def test_a_known_failure_is_left_out_without_being_run():
    seen: list[str] = []

    def grade(attempts: Sequence[Attempt]) -> list[Grade]:
        seen.extend(problem.problem_id for problem, _ in attempts)
        return [Grade("pass", 1, 1, "outside")] * len(attempts)

    assert check_references([*GOOD, BAD], ["bad"], grade) == GOOD
    assert seen == ["f", "g"]


def test_a_known_failure_that_is_no_problem_is_a_mistake():
    with pytest.raises(BadInput, match=r"names zzz, which is not among the 2 problems \(for example f\)"):
        check_references(GOOD, ["zzz"], lambda _attempts: [])


def test_a_sandbox_that_cannot_run_them_is_not_a_failing_reference():
    broken = Grade("infrastructure_error", 0, 2, "outside", "no processor time")
    with pytest.raises(InfrastructureFailed, match=r"could not run f .*no processor time"):
        check_references(GOOD, [], lambda attempts: [broken] * len(attempts))


def test_many_failures_are_summed_up():
    fail = Grade("fail", 0, 2, "outside", "")
    problems = [code_problem(f"p{number}") for number in range(8)]
    with pytest.raises(ReferenceFailed, match=r"p4 .* and 3 more\. No score"):
        check_references(problems, [], lambda attempts: [fail] * len(attempts))
