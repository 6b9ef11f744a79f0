"""What a problem with runnable tests is, and its file: one JSON object a line, sorted by ``problem_id``.

A problem is a prompt (signature and docstring) that a model continues with code, a reference solution that
completes the prompt, and tests. A test is data (a call and the literal source text of the value it must
return), so that a judge outside the sandbox can decide; tests that could not be written so are kept as source
in ``inside_tests``, are judged inside the sandbox and are never an RL reward. Nothing here runs code.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codellm_dag.sandbox.compare import Comparison

PROBLEMS_FILE = "problems.jsonl"
"""Name of the file in an artifact of kind ``problems``."""

_Name = Annotated[str, Field(min_length=1)]


class InvalidProblemError(ValueError):
    """A problems file is missing, damaged or breaks the schema; the message names file, line and field."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Call(_Record):
    """A call of the entry point; each argument is the source text of a Python literal."""

    args: tuple[str, ...] = ()
    kwargs: Mapping[str, str] = Field(default_factory=dict)


class Test(_Record):
    """One call and the literal source text of what it must return, compared as ``Comparison`` says."""

    __test__ = False  # pytest must not collect it

    call: Call
    expected: str
    comparison: Comparison = "equal"
    tolerance: float = Field(default=0.0, ge=0.0)


class Problem(_Record):
    """One problem; fields as in the module's docstring.

    ``template`` names the generator a problem came from ("" if it was written by hand) and ``split`` the half
    that template belongs to: ``train`` or ``heldout``. ``setup`` is source that must run before the solution.
    """

    problem_id: _Name
    benchmark: _Name
    language: _Name = "python"
    prompt: _Name
    entry_point: _Name
    reference: str
    tests: tuple[Test, ...] = ()
    inside_tests: str = ""
    setup: str = ""
    template: str = ""
    split: Literal["train", "heldout"] = "heldout"

    def program(self, completion: str) -> str:
        """The source to run for a completion of the prompt: setup, prompt, completion."""
        setup = f"{self.setup}\n" if self.setup else ""
        return f"{setup}{self.prompt}{completion}\n"


def write_problems(folder: Path, problems: Iterable[Problem]) -> Path:
    """Write ``problems.jsonl`` into `folder`, sorted by id, and return its path.

    Raises InvalidProblemError when two problems share an id.
    """
    ordered = sorted(problems, key=lambda problem: problem.problem_id)
    for left, right in itertools.pairwise(ordered):
        if left.problem_id == right.problem_id:
            raise InvalidProblemError(f"two problems have the id {left.problem_id!r}; ids must be distinct")
    path = folder / PROBLEMS_FILE
    path.write_text("".join(problem.model_dump_json() + "\n" for problem in ordered), encoding="utf-8")
    return path


def read_problems(folder: Path) -> list[Problem]:
    """The problems in `folder`, in file order.

    Raises InvalidProblemError for a missing file, a line that is not a problem, or a repeated id.
    """
    path = folder / PROBLEMS_FILE
    if not path.is_file():
        raise InvalidProblemError(f"{path} does not exist; an artifact of kind 'problems' holds that file")
    problems: list[Problem] = []
    seen: set[str] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        problem = _parse(path, number, line)
        if problem.problem_id in seen:
            raise InvalidProblemError(f"{path}:{number}: the id {problem.problem_id!r} appears twice")
        seen.add(problem.problem_id)
        problems.append(problem)
    return problems


def _parse(path: Path, number: int, line: str) -> Problem:
    try:
        return Problem.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "line"
        raise InvalidProblemError(f"{path}:{number}: {field}: {first['msg']}") from error
