"""Grades in the real sandbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from codellm_dag.problems.grading import (
    Attempt,
    Grade,
    GradeCache,
    GradePrograms,
    grade_programs,
    open_sandbox,
)
from codellm_dag.problems.schema import Call, Problem, Test
from codellm_dag.recipes.execution import ExecutionRecipe
from codellm_dag.sandbox import Sandbox

HALF = Problem(
    problem_id="half",
    benchmark="b",
    prompt="def half(x):\n",
    entry_point="half",
    reference="    return x / 2\n",
    tests=(
        Test(call=Call(args=("4",)), expected="2.0"),
        Test(call=Call(kwargs={"x": "1"}), expected="0.5"),
        Test(call=Call(args=("3",)), expected="1.5"),
    ),
)
INSIDE = HALF.model_copy(update={"tests": (), "inside_tests": "assert half(4) == 2"})
BOTH = HALF.model_copy(update={"inside_tests": "assert half(8) == 4"})


@pytest.fixture(scope="module")
def grade() -> Iterator[GradePrograms]:
    with open_sandbox(ExecutionRecipe(cpu_seconds=1, memory_megabytes=256), workers=2) as grade_in_sandbox:
        yield grade_in_sandbox


def test_grades_in_order(grade: GradePrograms):
    right, floor, broken = (HALF.program(body) for body in ("    return x / 2", "    return x // 2", "    ("))
    grades = grade([(HALF, right), (HALF, floor), (HALF, broken), (HALF, "half = 1"), (HALF, right)])
    assert grades[0] == grades[4] == Grade("pass", 3, 3, "outside")
    # 4 // 2 is 2, equal to 2.0; 1 // 2 and 3 // 2 are wrong.
    assert (grades[1].verdict, grades[1].passed, grades[1].total) == ("fail", 1, 3)
    assert "call 1" in grades[1].detail
    assert [(g.verdict, g.passed) for g in grades[2:4]] == [("fail", 0), ("fail", 0)]


def test_an_endless_loop_keeps_the_tests_it_passed_before(grade: GradePrograms):
    (result,) = grade([(HALF, "def half(x):\n    while x == 3: pass\n    return x / 2")])
    assert (result.verdict, result.passed) == ("fail", 2)
    assert "CPU" in result.detail


@pytest.mark.parametrize("cheat", ["import os\nos._exit(0)", "raise SystemExit(0)", "half = lambda x: True"])
def test_cheats_fail_outside(grade: GradePrograms, cheat: str):
    (result,) = grade([(HALF, cheat)])
    assert result.verdict == "fail"


def test_inside_tests_are_marked_and_both_kinds_must_pass(grade: GradePrograms):
    right, wrong = HALF.program("    return x / 2"), HALF.program("    return x / 2 if x < 8 else 0")
    grades = grade([(INSIDE, right), (INSIDE, "def half(x): return 3"), (BOTH, right), (BOTH, wrong)])
    assert [g.judged for g in grades] == ["inside"] * 4
    assert [(g.verdict, g.passed, g.total) for g in grades] == [
        ("pass", 1, 1),
        ("fail", 0, 1),
        ("pass", 4, 4),
        ("fail", 3, 4),
    ]
    assert grades[1].detail


def test_a_sandbox_that_breaks_is_neither_pass_nor_fail(monkeypatch: pytest.MonkeyPatch):
    from codellm_dag.sandbox import pool
    from codellm_dag.sandbox.errors import CellLostError

    def lost(*_arguments: object) -> None:
        raise CellLostError("the cell is gone")

    with Sandbox(workers=1, retries=0) as sandbox:
        monkeypatch.setattr(pool.Cell, "run", lost)
        (result,) = grade_programs(sandbox, [(HALF, HALF.program(HALF.reference))])
    assert result.verdict == "infrastructure_error"
    assert result.detail == "the cell is gone"


def test_a_problem_without_tests_is_refused(grade: GradePrograms):
    with pytest.raises(ValueError, match="half has no tests"):
        grade([(HALF.model_copy(update={"tests": ()}), "")])


def test_nothing_to_grade(grade: GradePrograms):
    assert grade([]) == []


def test_the_cache_runs_each_program_once_but_retries_broken_runs():
    passed, broken = Grade("pass", 2, 2, "outside"), Grade("infrastructure_error", 0, 2, "outside")
    seen: Counter[str] = Counter()

    def grade(pairs: Sequence[Attempt]) -> list[Grade]:
        seen.update(source for _, source in pairs)
        return [broken if source == "broken" else passed for _, source in pairs]

    cache = GradeCache(grade, size=3)
    a, b = HALF, HALF.model_copy(update={"problem_id": "b"})
    assert cache([(a, "x"), (a, "x"), (a, "broken")]) == [passed, passed, broken]
    assert cache([(a, "broken"), (b, "x"), (a, "x")]) == [broken, passed, passed]
    assert seen == {"x": 2, "broken": 2}  # "x" once for each problem
    assert cache.executed == 4
    cache([(a, "1"), (a, "2"), (a, "3")])
    cache([(a, "x")])
    assert seen["x"] == 3  # the oldest grades were dropped
    assert cache([]) == []
