"""Runs answers against their tests for the stages that filter data, and says how each one ended.

Tests that are data are judged outside, as in `grading.py`; here the ending matters too, since a rejected
example is kept with it. What the sandbox itself got wrong is tried again: `infrastructure_retries` times at
once, and once more when everything else has run. What still has no verdict is *undecided*, never failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from codellm_dag.problems.schema import Test
from codellm_dag.recipes.execution import ExecutionRecipe
from codellm_dag.sandbox import (
    Execution,
    Limits,
    Program,
    Sandbox,
    calls_for,
    judge_each,
    judge_inside,
    judge_stdout,
)

Ending = Literal["passed", "failed", "error", "timeout", "memory", "output_limit", "undecided"]
"""``failed``: it ran and a test did not pass. ``error``: it raised, exited or crashed outside a call."""


class UndecidedError(RuntimeError):
    """The sandbox failed too often, also when tried again: another attempt may do better."""

    label = "infra"


@dataclass(frozen=True)
class Trial:
    """A program and its tests: calls with expected values, standard input with expected output, or assertions
    that only the program's own process can judge (and could forge)."""

    program: str
    entry_point: str = ""
    tests: tuple[Test, ...] = ()
    streams: tuple[tuple[str, str], ...] = ()
    inside: str = ""


@dataclass(frozen=True)
class Result:
    """How a trial ended: ``passed`` only if every test did."""

    ending: Ending
    detail: str = ""


class Runner:
    """Runs trials in a sandbox that is open."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def run(self, trials: Sequence[Trial]) -> list[Result]:
        """Results in order; those without a verdict are tried once more after all the others.

        Raises ValueError for a trial without any test.
        """
        results = self._once(trials)
        open_ = [number for number, result in enumerate(results) if result.ending == "undecided"]
        for number, result in zip(open_, self._once([trials[number] for number in open_]), strict=True):
            results[number] = result
        return results

    def _once(self, trials: Sequence[Trial]) -> list[Result]:
        programs = [list(_programs(trial)) for trial in trials]
        executions = iter(self._sandbox.run([program for part in programs for program in part]))
        return [
            _result(trial, [next(executions) for _ in part])
            for trial, part in zip(trials, programs, strict=True)
        ]


@contextmanager
def open_runner(recipe: ExecutionRecipe, workers: int) -> Iterator[Runner]:
    """A runner in a sandbox that is open while the context is.

    Raises SandboxUnavailableError where this machine cannot confine programs.
    """
    limits = Limits.from_recipe(recipe)
    with Sandbox(workers=workers, limits=limits, retries=recipe.infrastructure_retries) as sandbox:
        yield Runner(sandbox)


def check_undecided(undecided: int, decided: int, most: float) -> None:
    """Raise UndecidedError when the share of examples without a verdict is above `most` (0 to 1)."""
    if undecided > most * (undecided + decided):
        raise UndecidedError(
            f"the sandbox gave no verdict on {undecided} of {undecided + decided} examples, also when they "
            f"were tried again; at most {most:.1%} may be (maximum_undecided); look at the sandbox"
        )


def _programs(trial: Trial) -> Iterator[Program]:
    if not (trial.tests or trial.streams or trial.inside):
        raise ValueError("a trial has no tests; a verdict needs at least one")
    if trial.tests:
        yield Program(trial.program, calls_for(trial.tests, trial.entry_point))
    for given, _ in trial.streams:
        yield Program(trial.program, mode="stdin", stdin=given)
    if trial.inside:
        yield Program(f"{trial.program}\n{trial.inside}\n", mode="asserts")


def _result(trial: Trial, executions: Sequence[Execution]) -> Result:
    """The worst of the trial's executions: one failure fails it, even if another could not be run."""
    rest = iter(executions)
    results: list[Result] = []
    if trial.tests:
        execution = next(rest)
        judgement = judge_each(execution, trial.tests)
        results.append(_of(execution, judgement.verdict.value, judgement.detail))
    for _, expected in trial.streams:
        execution = next(rest)
        got = f"printed {execution.stdout[:200]!r}, expected {expected[:200]!r}"
        results.append(_of(execution, judge_stdout(execution, expected).value, got))
    if trial.inside:
        execution = next(rest)
        results.append(_of(execution, judge_inside(execution).value, execution.stderr[-300:]))
    failures = [result for result in results if result.ending not in ("passed", "undecided")]
    undecided = [result for result in results if result.ending == "undecided"]
    return (failures or undecided or [Result("passed")])[0]


def _of(execution: Execution, verdict: str, detail: str) -> Result:
    if verdict == "pass":
        return Result("passed")
    if execution.status == "infrastructure_error":
        return Result("undecided", execution.detail)
    if execution.status == "finished":
        return Result("failed", detail)
    return Result(execution.status, execution.detail or detail)
