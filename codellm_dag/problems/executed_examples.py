"""Stage ``executed_examples``: instruction data of which only samples whose tests pass in the sandbox stay.

From files that the recipe names, or else from the chat examples in slot ``examples`` (with their tests). A
sample's answer is run as evaluation runs a chat model's; expected values are compared outside. Rejected ones
are kept with the reason: ``failed``, ``error`` (raised or crashed), ``timeout``, ``memory``,
``output_limit``; without a verdict, ``undecided``: tried again each time and never counted as failed.

Writes the files of `chat_files.py`. Memory: 256 samples, 100 bytes a kept sample, and 120 bytes an n-gram of
the benchmarks. Not covered: languages other than Python, and answers that need packages.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.problems.chat_files import ChatExample, Contamination, Repeats, Sieve
from codellm_dag.problems.execution import Runner, Trial, check_undecided, open_runner
from codellm_dag.problems.instruction_rows import (
    InvalidTestsError,
    RowTests,
    examples,
    read_tests,
    text_of,
)
from codellm_dag.problems.programs import code_of_answer, program_from_answer
from codellm_dag.problems.schema import Problem
from codellm_dag.problems.sft_data_file import DATA_FILE
from codellm_dag.recipes.sft_sources import ExecutedExamplesRecipe
from codellm_dag.stages.protocol import Inputs, Report

STEPS = ("code", "tests", "duplicate", "decontamination", "execution")
_BATCH = 256


@dataclass(frozen=True)
class Sample:
    """A chat example and its tests as they came."""

    example: ChatExample
    tests: Any
    entry_point: str = ""


def run(recipe: ExecutedExamplesRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Filter the samples and compare them with every benchmark in the slots ``benchmark/*``.

    Metrics: seen, examples, rejected, failed (tests did not pass, for whatever reason), undecided,
    judged_inside. Raises CorpusError for rows without the fields, ValueError without a benchmark or when no
    sample is left, UndecidedError where the sandbox fails too often.
    """
    contamination = Contamination(recipe.decontamination, inputs)
    samples = _samples(recipe, inputs)
    if recipe.maximum_samples:
        samples = itertools.islice(samples, recipe.maximum_samples)
    counts = {"failed": 0, "undecided": 0, "judged_inside": 0}
    done = 0
    with Sieve(out, STEPS) as sieve, open_runner(recipe.execution, report.runtime.workers) as runner:
        chosen = _trials(recipe, samples, sieve, contamination)
        while batch := list(itertools.islice(chosen, _BATCH)):
            _judge(batch, runner, sieve, counts)
            done += len(batch)
            report.progress(done, done, "samples")
    undecided = counts["undecided"]
    check_undecided(undecided, done - undecided, recipe.maximum_undecided)
    sieve.finish(report)
    report.metric(**counts)
    if not sieve.kept:
        raise ValueError(
            f"no sample of {sieve.counts()['total']['documents_in']} is left; look at the fields that the "
            "recipe names, and at what the log says was rejected"
        )


def _judge(
    batch: list[tuple[ChatExample, Trial]], runner: Runner, sieve: Sieve, counts: dict[str, int]
) -> None:
    results = runner.run([trial for _, trial in batch])
    for (example, trial), result in zip(batch, results, strict=True):
        if result.ending == "passed":
            counts["judged_inside"] += bool(trial.inside)
            sieve.keep(example)
        else:
            counts["undecided" if result.ending == "undecided" else "failed"] += 1
            sieve.reject(example, "execution", result.ending, result.detail)


def _trials(
    recipe: ExecutedExamplesRecipe, samples: Iterator[Sample], sieve: Sieve, contamination: Contamination
) -> Iterator[tuple[ChatExample, Trial]]:
    """Samples that are worth running; the others go to the sieve with their reason."""
    repeats = Repeats()
    for sample in samples:
        example = sample.example
        if why := example.unfit(recipe.maximum_bytes, len(str(sample.tests).encode())):
            sieve.reject(example, "code", *why)
            continue
        try:
            trial = _trial(sample, recipe.judged_inside)
        except InvalidTestsError as error:
            sieve.reject(example, "tests", "unreadable", str(error))
            continue
        if isinstance(trial, str):
            sieve.reject(example, "tests", trial)
        elif found := repeats.first(example):
            sieve.reject(example, "duplicate", "duplicate", found)
        elif overlap := contamination.of(example):
            sieve.reject(example, "decontamination", overlap.reason, overlap.detail)
        else:
            yield example, trial


def _trial(sample: Sample, judged_inside: bool) -> Trial | str:
    """The program of a sample with its tests, or why it has none: ``no_tests``, ``not_data``."""
    example = sample.example
    tests = read_tests(sample.tests, sample.entry_point, code_of_answer(example.answer, sample.entry_point))
    if not (tests.tests or tests.streams or tests.leftover):
        return "no_tests"
    if (tests.tests and not tests.entry_point) or (tests.leftover and not judged_inside):
        return "not_data"
    return Trial(_program(example, tests), tests.entry_point, tests.tests, tests.streams, tests.leftover)


def _program(example: ChatExample, tests: RowTests) -> str:
    """The answer as evaluation would run it: as code of its own, or as a body that completes the request."""
    if not tests.entry_point:
        return code_of_answer(example.answer, "")
    problem = Problem(
        problem_id=example.example_id,
        benchmark="executed",
        prompt=f"{example.request}\n",
        entry_point=tests.entry_point,
        reference="",
    )
    return program_from_answer(problem, example.answer)


def _samples(recipe: ExecutedExamplesRecipe, inputs: Inputs) -> Iterator[Sample]:
    if recipe.path:
        return _from_files(recipe)
    if "examples" not in inputs:
        raise CorpusError(
            "executed_examples has neither `path` nor the input examples; set executed_examples.path to a "
            "file or folder, or materialize doctest_functions"
        )
    return _from_artifact(inputs["examples"].path / DATA_FILE)


def _from_files(recipe: ExecutedExamplesRecipe) -> Iterator[Sample]:
    entry_point = recipe.entry_point_field
    for example, row in examples(recipe, "executed", [recipe.tests_field, *filter(None, [entry_point])]):
        name = text_of(row, entry_point, example.path) if entry_point else ""
        yield Sample(example, row[recipe.tests_field], name)


def _from_artifact(path: Path) -> Iterator[Sample]:
    import pyarrow.parquet as pq

    if not path.is_file():
        raise CorpusError(f"{path}: there is no such file; chat examples are one file {DATA_FILE}")
    columns = ["problem_id", "messages", "source", "path", "licence", "tests"]
    file = pq.ParquetFile(path)
    missing = [name for name in columns if name not in file.schema_arrow.names]
    if missing:
        raise CorpusError(f"{path}: no column {missing[0]!r}; allowed: chat examples with their tests")
    for batch in file.iter_batches(batch_size=_BATCH, columns=columns):
        for row in batch.to_pylist():
            turns = {message["role"]: message["content"] for message in row["messages"]}
            example = ChatExample(
                row["problem_id"],
                turns.get("user", ""),
                turns.get("assistant", ""),
                row["source"],
                row["path"],
                row["licence"],
                row["tests"],
            )
            yield Sample(example, row["tests"])
