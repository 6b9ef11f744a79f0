"""Trials in the real sandbox: how each ends, and what happens when the sandbox itself fails."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from codellm_dag.problems.execution import Runner, Trial, UndecidedError, check_undecided, open_runner
from codellm_dag.problems.schema import Call, Test
from codellm_dag.recipes.execution import ExecutionRecipe
from codellm_dag.sandbox import Sandbox
from codellm_dag.stages.failures import label_of

ADDS_TWO = (Test(call=Call(args=("2",)), expected="4"),)


def calls(source: str) -> Trial:
    return Trial(source, "f", ADDS_TWO)


def test_each_ending_has_its_name() -> None:
    trials = [
        calls("def f(x): return x + 2"),
        calls("def f(x): return x + 3"),
        calls("def f(x): raise KeyError(x)"),
        calls("import nosuch"),
        calls("def f(x):\n    while True: pass"),
        calls("def f(x): return len(bytearray(1 << 30))"),
        calls("def f(x): return 'x' * (4 << 20)"),
        Trial("print(int(input()) + 2)", streams=(("2\n", "4"), ("3\n", "5\n"))),
        Trial("print(int(input()) + 2)", streams=(("2\n", "4"), ("3\n", "6"))),
        Trial("def f(x): return x + 2", inside="assert f(2) == 4"),
        Trial("def f(x): return x", inside="assert f(2) == 4"),
        Trial("def f(x): return x + 2", "f", ADDS_TWO, inside="assert f(3) == 6"),
    ]
    with open_runner(ExecutionRecipe(cpu_seconds=0.5, wall_seconds=5), workers=2) as runner:
        results = runner.run(trials)
    assert [result.ending for result in results] == [
        *("passed", "failed", "failed", "error", "timeout"),
        *("failed", "output_limit", "passed", "failed", "passed", "error", "error"),
    ]
    assert results[1].detail.endswith("expected equal 4")
    assert "KeyError" in results[2].detail
    assert "MemoryError" in results[5].detail
    assert results[8].detail == "printed '5\\n', expected '6'"


@contextmanager
def killed(sandbox: Sandbox, times: int) -> Iterator[None]:
    """Meanwhile the cell of the running program is killed `times` times, as soon as there is a new one."""

    def kill() -> None:
        known: set[int] = set()
        deadline = time.monotonic() + 20
        while len(known) < times and time.monotonic() < deadline:
            time.sleep(0.4)
            for pid in set(sandbox.cell_pids()) - known:
                known.add(pid)
                os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()


def test_a_program_whose_sandbox_died_is_tried_again_after_the_others() -> None:
    slow = calls("import time\ntime.sleep(1)\ndef f(x): return x + 2")
    with Sandbox(workers=1, retries=0) as sandbox, killed(sandbox, 1):
        results = Runner(sandbox).run([slow, calls("def f(x): return 5")])
    assert [result.ending for result in results] == ["passed", "failed"]


def test_without_a_verdict_it_is_undecided_and_never_failed() -> None:
    wrong = calls("import time\ntime.sleep(8)\ndef f(x): return 5")
    with Sandbox(workers=1, retries=0) as sandbox, killed(sandbox, 2):
        (result,) = Runner(sandbox).run([wrong])
    assert result.ending == "undecided"


def test_too_many_without_a_verdict_are_the_machines_fault() -> None:
    check_undecided(1, 99, 0.01)
    check_undecided(0, 0, 0.0)
    with pytest.raises(UndecidedError, match=r"no verdict on 2 of 101 examples.*at most 1\.0%") as raised:
        check_undecided(2, 99, 0.01)
    assert label_of(raised.value) == "infra"


def test_a_trial_without_tests_is_an_error() -> None:
    with Sandbox(workers=1) as sandbox, pytest.raises(ValueError, match="a trial has no tests"):
        Runner(sandbox).run([Trial("x = 1")])
