"""Runs programs against problems' tests in the sandbox and grades them.

Tests that are data are judged outside. ``inside_tests`` are source: the program runs them itself and can
forge their verdict; a grade that rests on them (alone or in part) says ``judged="inside"`` and is no reward.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from codellm_dag.problems.schema import Problem
from codellm_dag.recipes.execution import ExecutionRecipe
from codellm_dag.sandbox import Execution, Limits, Program, Sandbox, calls_for, judge_each, judge_inside

Attempt = tuple[Problem, str]
"""A problem and the whole program (see programs.py) that is to solve it."""

GradePrograms = Callable[[Sequence[Attempt]], "list[Grade]"]
"""Grades attempts, in order."""

_DETAIL = 300
"""Characters kept of a failure's description."""


@dataclass(frozen=True)
class Grade:
    """What a program got. ``passed`` of ``total`` tests; all inside tests together count as one test."""

    verdict: Literal["pass", "fail", "infrastructure_error"]
    passed: int
    total: int
    judged: Literal["outside", "inside"]
    detail: str = ""


@contextmanager
def open_sandbox(recipe: ExecutionRecipe, workers: int) -> Iterator[GradePrograms]:
    """A function that grades attempts in a sandbox that is open while the context is.

    Raises SandboxUnavailableError where this machine cannot confine programs.
    """
    limits = Limits(
        cpu_seconds=recipe.cpu_seconds,
        wall_seconds=recipe.wall_seconds,
        memory_bytes=recipe.memory_megabytes << 20,
    )
    with Sandbox(workers=workers, limits=limits, retries=recipe.infrastructure_retries) as sandbox:
        yield lambda attempts: grade_programs(sandbox, attempts)


def grade_programs(sandbox: Sandbox, attempts: Sequence[Attempt]) -> list[Grade]:
    """Grades of `attempts`, in order. Raises ValueError for a problem without any test."""
    programs: list[Program] = []
    for problem, source in attempts:
        programs.extend(_programs(problem, source))
    executions = iter(sandbox.run(programs))
    return [_grade(problem, executions) for problem, _ in attempts]


class GradeCache:
    """Grades each distinct program once: a good model repeats itself, and verdicts do not change.

    An infrastructure error is not kept. Holds the last `size` grades.
    """

    def __init__(self, grade_programs: GradePrograms, size: int = 65_536) -> None:
        self._grade_programs = grade_programs
        self._size = size
        self._grades: OrderedDict[bytes, Grade] = OrderedDict()
        self.executed = 0

    def __call__(self, attempts: Sequence[Attempt]) -> list[Grade]:
        """Grades of `attempts`, in order."""
        keys = [
            hashlib.sha256(f"{problem.problem_id}\0{source}".encode(errors="surrogatepass")).digest()
            for problem, source in attempts
        ]
        missing = {key: pair for key, pair in zip(keys, attempts, strict=True) if key not in self._grades}
        fresh = dict(zip(missing, self._grade_programs(list(missing.values())), strict=True))
        self.executed += len(fresh)
        known = {key: fresh[key] if key in fresh else self._grades[key] for key in keys}
        for key, grade in known.items():
            if grade.verdict != "infrastructure_error":
                self._grades[key] = grade
                self._grades.move_to_end(key)
        while len(self._grades) > self._size:
            self._grades.popitem(last=False)
        return [known[key] for key in keys]


def _programs(problem: Problem, source: str) -> Iterator[Program]:
    if not problem.tests and not problem.inside_tests:
        raise ValueError(f"problem {problem.problem_id} has no tests; a verdict needs at least one")
    if problem.tests:
        yield Program(source, calls_for(problem.tests, problem.entry_point))
    if problem.inside_tests:
        yield Program(f"{source}\n{problem.inside_tests}\n", mode="asserts")


def _grade(problem: Problem, executions: Iterator[Execution]) -> Grade:
    """The grade of one attempt from its one or two executions."""
    passed: list[bool] = []
    verdicts: list[str] = []
    details: list[str] = []
    if problem.tests:
        judgement = judge_each(next(executions), problem.tests)
        passed.extend(judgement.passed)
        verdicts.append(judgement.verdict.value)
        details.append(judgement.detail)
    if problem.inside_tests:
        execution = next(executions)
        verdict = judge_inside(execution).value
        passed.append(verdict == "pass")
        verdicts.append(verdict)
        details.append(execution.detail or execution.stderr[-_DETAIL:] if verdict != "pass" else "")
    return Grade(
        verdict=_worst(verdicts),
        passed=sum(passed),
        total=len(passed),
        judged="inside" if problem.inside_tests else "outside",
        detail="; ".join(filter(None, details))[:_DETAIL],
    )


def _worst(verdicts: Sequence[str]) -> Literal["pass", "fail", "infrastructure_error"]:
    """One failed part fails the whole, even if another could not be run."""
    if "fail" in verdicts:
        return "fail"
    return "infrastructure_error" if "infrastructure_error" in verdicts else "pass"
