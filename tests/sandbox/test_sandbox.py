"""What the sandbox gives back for honest and merely wrong programs: outputs, streams, statuses, order."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from codellm_dag.sandbox import Call, Execution, Limits, Program, Sandbox, SandboxError, to_literal

Run = Callable[..., Execution]


def values(execution: Execution) -> list[str]:
    """Every output as a literal, or as kind and detail."""
    return [to_literal(out.value) if out.value else f"{out.kind}: {out.detail}" for out in execution.outputs]


def test_each_call_gives_a_value_or_an_exception(sandbox: Sandbox) -> None:
    source = "def f(x, y=1):\n    return (x / y, [x])\ndef g():\n    return object()"
    calls = (
        Call("f", ("1",)),
        Call("f", ("1",), {"y": "0"}),
        Call("f", ("'a'",)),
        Call("g"),
        Call("missing"),
    )
    execution = sandbox.run_one(Program(source, calls))
    assert execution.status == "finished"
    assert values(execution) == [
        "(1.0, [1])",
        "exception: ZeroDivisionError: division by zero",
        "exception: TypeError: unsupported operand type(s) for /: 'str' and 'int'",
        "unsupported: a value of type object is not plain data",
        "exception: AttributeError: module 'program' has no attribute 'missing'",
    ]


def test_arguments_are_fresh_for_every_call_and_shown_only_if_asked(sandbox: Sandbox) -> None:
    source = (
        "seen = []\ndef f(items, **more):\n    items.append(len(seen)); seen.append(items)\n    return items"
    )
    calls = (Call("f", ("[]",)), Call("f", ("[]",), {"k": "{1}"}, show_arguments=True))
    execution = sandbox.run_one(Program(source, calls))
    assert values(execution) == ["[0]", "[1]"]
    assert execution.outputs[0].arguments is None
    assert to_literal(execution.outputs[1].arguments or "") == "[[[1]], {'k': {1}}]"


def test_arguments_that_are_not_quite_literals(sandbox: Sandbox) -> None:
    arguments = ("set()", "frozenset({1})", "float('inf')", "-inf", "nan", "bytearray(b'x')", "1+2j")
    execution = sandbox.run_one(
        Program("def f(*a): return [type(x).__name__ for x in a]", (Call("f", arguments),))
    )
    assert values(execution) == ["['set', 'frozenset', 'float', 'float', 'float', 'bytearray', 'complex']"]


def test_views_are_applied_to_the_result(sandbox: Sandbox) -> None:
    source = "def f(): return (x for x in (2, 1, 2))\ndef g(): return object()"
    calls = [Call("f", view=view) for view in ("tuple", "list", "set", "sorted", "bool")] + [
        Call("g", view="bool")
    ]
    execution = sandbox.run_one(Program(source, tuple(calls)))
    assert values(execution) == ["(2, 1, 2)", "[2, 1, 2]", "{1, 2}", "[1, 2, 2]", "True", "True"]


def test_methods_dataclasses_and_main_guards(sandbox: Sandbox) -> None:
    source = """
from __future__ import annotations
import dataclasses, typing
@dataclasses.dataclass
class Point:
    x: typing.ClassVar[int] = 3
    @staticmethod
    def f(): return Point.x
if __name__ == "__main__":
    raise SystemExit("not a script")
"""
    assert values(sandbox.run_one(Program(source, (Call("Point.f"),)))) == ["3"]


def test_standard_streams_of_a_script(sandbox: Sandbox) -> None:
    source = (
        "import sys\nname = input()\nprint('hello', name, sys.stdin.read())\nprint('oh', file=sys.stderr)"
    )
    execution = sandbox.run_one(Program(source, mode="stdin", stdin="wörld\n1\n2\n"))
    assert (execution.status, execution.stdout, execution.stderr) == (
        "finished",
        "hello wörld 1\n2\n\n",
        "oh\n",
    )


@pytest.mark.parametrize(
    ("source", "status", "detail"),
    [
        ("import sys; sys.exit(3)", "error", "SystemExit: 3"),
        ("import sys; sys.exit()", "finished", ""),
        ("exit(0)", "finished", ""),
        ("if __name__ == '__main__': raise KeyError('x')", "error", "KeyError: 'x'"),
        ("def (", "error", "SyntaxError: invalid syntax (<program>, line 1)"),
        ("import numpy", "error", "ModuleNotFoundError: No module named 'numpy'"),
        ("input()", "error", "EOFError: EOF when reading a line"),
    ],
)
def test_how_scripts_end(source: str, status: str, detail: str, sandbox: Sandbox) -> None:
    execution = sandbox.run_one(Program(source, mode="stdin"))
    assert (execution.status, execution.detail) == (status, detail)


def test_script_waits_for_its_threads_and_exit_functions(sandbox: Sandbox) -> None:
    source = """
import atexit, threading, time
atexit.register(print, "last")
threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
print("main")
"""
    assert sandbox.run_one(Program(source, mode="stdin")).stdout == "main\nthread\nlast\n"


def test_assert_scripts_are_marked(sandbox: Sandbox) -> None:
    good = sandbox.run_one(Program("def f(): return 1\nassert f() == 1", mode="asserts"))
    bad = sandbox.run_one(Program("def f(): return 2\nassert f() == 1, 'wrong'", mode="asserts"))
    assert (good.status, good.judged_inside) == ("finished", True)
    assert (bad.status, bad.detail, bad.judged_inside) == ("error", "AssertionError: wrong", True)


def test_runs_are_deterministic(run: Run) -> None:
    source = """
    import random
    def f(): return [random.random(), hash("x"), list({"a", "b", "c", "d", "e"}), id(f) > 0]
    """
    first, second = run(source), run(source)
    assert first.outputs == second.outputs
    # random.seed(0), as documented by Python for every platform
    assert values(first)[0].startswith("[0.8444218515250481, ")


def test_program_may_have_its_own_limits(sandbox: Sandbox) -> None:
    loop = Program("while True: pass", (Call("f"),), limits=Limits(cpu_seconds=0.2))
    execution = sandbox.run_one(loop)
    assert execution.status == "timeout"
    assert execution.detail == "used more than 0.2 s of CPU time"
    assert 0.2 <= execution.cpu_seconds < 0.6


def test_finished_too_late_is_a_timeout(run: Run) -> None:
    """CPU time decides, not which of the program and its watch was quicker."""
    source = """
    import time
    def f():
        while time.process_time() < 0.105: pass
    """
    execution = run(source, limits=Limits(cpu_seconds=0.1))
    assert execution.status == "timeout"


def test_waiting_for_a_processor_is_not_the_program_s_fault(run: Run) -> None:
    """Four burners compete for the processors: the program's 0.5 s of CPU take longer than its wall limit."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    try:
        source = """
        import time
        def f():
            while time.process_time() < 0.5: pass
            return 1
        """
        execution = run(source, limits=Limits(cpu_seconds=5, wall_seconds=0.6))
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert values(execution) == ["1"], execution


def test_memory_limit(run: Run) -> None:
    source = "def f(n): return len(bytearray(n << 20))"
    assert values(run(source, "100")) == ["104857600"]
    assert values(run(source, "100", limits=Limits(memory_bytes=100 << 20))) == ["exception: MemoryError: "]


def test_large_results_within_the_limit(run: Run) -> None:
    assert len(values(run("def f(): return list(range(10_000))"))[0]) > 50_000
    assert run("def f(): return 'x' * 900_000").outputs[0].ok
    assert run("def f(): return 'x' * 1_100_000").status == "output_limit"


def test_order_is_kept_and_threads_may_share(sandbox: Sandbox) -> None:
    del sandbox
    with Sandbox(workers=2) as shared:
        programs = [Program(f"def f(): return {number}", (Call("f"),)) for number in range(30)]
        assert [values(execution) for execution in shared.run(programs)] == [[str(n)] for n in range(30)]


def test_cell_that_dies_is_replaced_and_its_program_retried() -> None:
    """Killed from outside, as no program can do it: an infrastructure matter."""
    import os
    import signal

    with Sandbox(workers=1, retries=1) as sandbox:
        program = Program("import time\ntime.sleep(0.5)\ndef f(): return 1", (Call("f"),))
        future = sandbox.submit(program)
        time.sleep(0.2)
        os.kill(sandbox.cell_pids()[0], signal.SIGKILL)
        execution = future.result()
        assert (values(execution), execution.attempts) == (["1"], 2)


def test_stop_that_crosses_the_report_is_ignored(sandbox: Sandbox) -> None:
    """Outside and supervisor may both find that a program has used up its time."""
    before = sandbox.cell_pids()
    sandbox._cells[0]._channel.send(b"stop")
    assert values(sandbox.run_one(Program("def f(): return 1", (Call("f"),)))) == ["1"]
    assert sandbox.cell_pids() == before


def test_infrastructure_error_after_the_last_retry_and_recovery() -> None:
    import os
    import signal

    with Sandbox(workers=1, retries=0) as sandbox:
        future = sandbox.submit(Program("import time\ntime.sleep(5)\ndef f(): return 1", (Call("f"),)))
        time.sleep(0.2)
        os.kill(sandbox.cell_pids()[0], signal.SIGKILL)
        execution = future.result()
        assert (execution.status, execution.outputs) == ("infrastructure_error", ())
        assert sandbox.run_one(Program("def f(): return 1", (Call("f"),))).status == "finished"


def test_nothing_is_left_when_the_outside_is_killed() -> None:
    """SIGKILL of the process that holds a Sandbox takes its cells and their programs along."""
    source = """
import sys, time
from codellm_dag.sandbox import Call, Program, Sandbox
with Sandbox(workers=1) as sandbox:
    sandbox.submit(Program("import time\\ntime.sleep(100)\\ndef f(): pass", (Call("f"),)))
    time.sleep(0.3)
    print(sandbox.cell_pids()[0], flush=True)
    time.sleep(100)
"""
    from pathlib import Path

    outside = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert outside.stdout is not None
    cell = int(outside.stdout.readline())
    assert Path(f"/proc/{cell}").exists()
    outside.kill()
    outside.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{cell}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{cell}/exe").exists()


def test_starts_within_a_second_and_imports_nothing_heavy() -> None:
    source = """
import sys, time
import codellm_dag.sandbox as s
heavy = {"torch", "transformers", "pandas", "numpy", "datasets", "pydantic"} & set(sys.modules)
started = time.process_time()
with s.Sandbox(workers=1): pass
print(sorted(heavy), time.process_time() - started)
"""
    done = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("[] 0.")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Limits(cpu_seconds=0), "Limits.cpu_seconds = 0: must be a number from 0.01 to 86400"),
        (lambda: Limits(memory_bytes=1), "Limits.memory_bytes = 1: must be"),
        (lambda: Limits(processes=True), "Limits.processes = True: must be"),
        (lambda: Program("", mode="jobs"), "Program.mode = 'jobs': must be"),  # type: ignore[arg-type]
        (lambda: Program("", (Call("f"),), mode="stdin"), "Program.calls is only for mode 'calls'"),
        (lambda: Program("", (Call("f", view="dict"),)), "Call.view = 'dict': must be one of"),  # type: ignore[arg-type]
        (lambda: Sandbox(workers=0), "Sandbox workers = 0: must be from 1 to 256"),
        (lambda: Sandbox(retries=-1), "Sandbox retries = -1: must be from 0 to 20"),
    ],
)
def test_bad_input_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_closed_sandbox_is_refused() -> None:
    with pytest.raises(SandboxError, match="not open"):
        Sandbox().run_one(Program(""))


def test_leaving_does_not_wait_for_what_nobody_waits_for() -> None:
    sleeper = Program("import time\ntime.sleep(25)\ndef f(): pass", (Call("f"),))
    with Sandbox(workers=1) as sandbox:
        running, queued = sandbox.submit(sleeper), sandbox.submit(sleeper)
        time.sleep(0.3)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    assert running.result().status == "infrastructure_error"
    assert queued.cancelled()
