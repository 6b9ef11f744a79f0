"""The split of microbench's templates, handed from the benchmark to the training stages.

The benchmark's artifact says which templates it holds out (``split.json``); the stages that make training
problems read it there, so the two can never disagree, and check every problem against the benchmark's own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from codellm_dag.problems.microbench.family import BENCHMARK, Split
from codellm_dag.problems.schema import Problem, read_problems
from codellm_dag.stages.protocol import LocalArtifact

SPLIT_FILE = "split.json"

_SPACE = re.compile(r"\s+")


class ContaminationError(ValueError):
    """A training problem is also a benchmark's; the message names both."""


class MissingBenchmarkError(ValueError):
    """The stage was not given the benchmark whose held-out half it must avoid."""


def write_split(folder: Path, split: Split) -> None:
    """Write ``split.json``."""
    values = {"heldout_fraction": split.heldout_fraction, "seed": split.seed}
    (folder / SPLIT_FILE).write_text(json.dumps(values, sort_keys=True) + "\n", encoding="utf-8")


def read_split(benchmarks: Mapping[str, LocalArtifact]) -> Split:
    """The split that the artifact of microbench among `benchmarks` declares.

    Raises MissingBenchmarkError when there is none.
    """
    if BENCHMARK not in benchmarks:
        raise MissingBenchmarkError(
            f"the slot benchmark/{BENCHMARK} is empty (given: {', '.join(benchmarks) or 'none'}); training "
            "problems are made from the templates that this benchmark does not hold out"
        )
    path = benchmarks[BENCHMARK].path / SPLIT_FILE
    if not path.is_file():
        raise MissingBenchmarkError(f"{path} does not exist; it comes with the benchmark {BENCHMARK}")
    return Split(**json.loads(path.read_text(encoding="utf-8")))


def check_disjoint(training: Iterable[Problem], benchmarks: Mapping[str, LocalArtifact]) -> int:
    """The number of benchmark problems that `training` was compared with.

    Raises ContaminationError when a training problem has a benchmark problem's template, prompt or reference
    (white space and the function's name aside).
    """
    templates: dict[str, str] = {}
    texts: dict[str, str] = {}
    count = 0
    for artifact in benchmarks.values():
        for problem in read_problems(artifact.path):
            count += 1
            if problem.template:
                templates[problem.template] = problem.problem_id
            for text in _texts(problem):
                texts[text] = problem.problem_id
    for problem in training:
        found = templates.get(problem.template) if problem.template else None
        found = found or next((texts[text] for text in _texts(problem) if text in texts), None)
        if found:
            raise ContaminationError(f"training problem {problem.problem_id} is benchmark problem {found}")
    return count


def _texts(problem: Problem) -> tuple[str, ...]:
    """What two copies of a problem share whatever its function is called: prompt with reference."""
    whole = f"{problem.prompt}{problem.reference}".replace(problem.entry_point, "f")
    prompt = problem.prompt.replace(problem.entry_point, "f")
    return tuple(_SPACE.sub(" ", text).strip() for text in (whole, prompt))
