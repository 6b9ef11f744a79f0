"""Stage ``edit_sequences``: chat examples whose answer writes a program edit by edit (`lintseq.py`).

Programs are documented functions of the clean Python corpus with their helpers (slot ``corpus``), asked for
by signature and docstring; or the answers of other chat examples (slots ``examples/*``), asked for as there.
Every state between two edits is free of errors, and applying the edits gives the program back exactly: each
sequence is checked before it is written. Nothing is run.

Writes the files of `chat_files.py`. Memory: ids of the programs (300 bytes each), 100 bytes a kept example,
and 120 bytes an n-gram of the benchmarks. Time: a sequence lints its program about three times a line.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.problems.chat_files import ChatExample, Contamination, Repeats, Sieve
from codellm_dag.problems.doctests import as_source
from codellm_dag.problems.lintseq import apply_edits, as_text, edits_in, edits_of
from codellm_dag.problems.programs import code_of_answer
from codellm_dag.problems.python_modules import Module, python_modules
from codellm_dag.problems.sft_data_file import DATA_FILE
from codellm_dag.problems.standalone import NotAloneError, documented, standalone
from codellm_dag.recipes.sft_sources import EditSequencesRecipe
from codellm_dag.stages.protocol import Inputs, Report

STEPS = ("alone", "length", "duplicate", "decontamination", "lint")


@dataclass(frozen=True)
class Program:
    """A program to be written, as a chat example whose answer is the whole program; or why there is none."""

    example: ChatExample
    refused: NotAloneError | None = None


def run(recipe: EditSequencesRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Make the sequences; compare with every benchmark in the slots ``benchmark/*``.

    Metrics: seen (programs; each further sequence of one counts again), examples, rejected, edits,
    edits_per_example. Raises CorpusError for inputs without the programs that the recipe asks for, ValueError
    without a benchmark or when nothing is left.
    """
    contamination = Contamination(recipe.decontamination, inputs)
    repeats, edits, kept = Repeats(), 0, 0
    names = _chosen(recipe, inputs)
    with Sieve(out, STEPS) as sieve:
        chosen = (build for name, build in _programs(recipe, inputs) if names is None or name in names)
        for number, build in enumerate(chosen):
            total = len(names) if names is not None else number
            report.progress(number, total, "programs")
            program = build()
            if rejection := _refusal(recipe, program, repeats, contamination):
                sieve.reject(program.example, *rejection)
                continue
            try:
                for example, size in _sequences(recipe, program.example):
                    sieve.keep(example)
                    edits, kept = edits + size, kept + 1
            except ValueError as error:
                sieve.reject(program.example, "lint", "error", str(error))
    sieve.finish(report)
    if not kept:
        raise ValueError(
            f"of {sieve.counts()['total']['documents_in']} programs none is left; look at the recipe's "
            "limits and at rejected.parquet"
        )
    report.metric(edits=edits, edits_per_example=round(edits / kept, 2))


def _refusal(
    recipe: EditSequencesRecipe, program: Program, repeats: Repeats, contamination: Contamination
) -> tuple[str, str, str] | None:
    """The step that rejects a program, the reason and the detail."""
    example = program.example
    if program.refused:
        return "alone", program.refused.reason, program.refused.detail
    length = example.answer.count("\n")
    if not recipe.minimum_lines <= length <= recipe.maximum_lines:
        return "length", "short" if length < recipe.minimum_lines else "long", f"{length} lines"
    if found := repeats.first(example):
        return "duplicate", "duplicate", found
    overlap = contamination.of(example)
    return ("decontamination", overlap.reason, overlap.detail) if overlap else None


def _sequences(recipe: EditSequencesRecipe, example: ChatExample) -> Iterator[tuple[ChatExample, int]]:
    """Different edit sequences of a program, each with its number of edits. Raises ValueError as
    `edits_of`."""
    known: set[str] = set()
    for number in range(recipe.sequences):
        edits = edits_of(example.answer, f"{recipe.seed}:{example.example_id}:{number}")
        text = as_text(edits)
        if text in known:
            continue
        known.add(text)
        *_, written = apply_edits(edits_in(text))
        if written != example.answer:
            raise ValueError("the program holds the words that separate edits, so they cannot be told apart")
        yield _replaced(example, text, number), len(edits)


def _replaced(example: ChatExample, answer: str, number: int) -> ChatExample:
    return ChatExample(
        f"{example.example_id}#{number}" if number else example.example_id,
        example.request,
        answer,
        example.source,
        example.path,
        example.licence,
        example.tests,
    )


def _chosen(recipe: EditSequencesRecipe, inputs: Inputs) -> set[str] | None:
    """The names of the programs to look at; None: all."""
    if not recipe.maximum_programs:
        return None
    names = (name for name, _ in _programs(recipe, inputs))
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{recipe.seed}:{name}".encode()).digest())
    return set(ranked[: recipe.maximum_programs])


def _programs(recipe: EditSequencesRecipe, inputs: Inputs) -> Iterator[tuple[str, Callable[[], Program]]]:
    """Each program's name, and what makes it."""
    if recipe.programs == "functions":
        if "corpus" not in inputs:
            raise CorpusError("edit_sequences of functions need the input corpus: the clean Python corpus")
        return _functions(inputs["corpus"].path)
    given = inputs.many("examples")
    if not given:
        raise CorpusError(
            "edit_sequences.programs = 'examples' needs chat examples; materialize doctest_functions or "
            "executed_examples first, or set it to 'functions'"
        )
    return _answers([artifact.path for artifact in given.values()])


def _functions(corpus: Path) -> Iterator[tuple[str, Callable[[], Program]]]:
    for module in python_modules(corpus):
        names: dict[str, int] = {}
        for node in documented(module.tree):
            names[node.name] = names.get(node.name, 0) + 1
            suffix = f"@{names[node.name]}" if names[node.name] > 1 else ""
            name = f"edits/{module.document.source}/{module.document.path}:{node.name}{suffix}"
            yield name, partial(_function, name, module, node)


def _function(name: str, module: Module, node: ast.FunctionDef) -> Program:
    place = (module.document.source, module.document.path, module.document.licence)
    try:
        function = standalone(module.tree, module.lines, node)
    except NotAloneError as error:
        text = ast.get_docstring(node) or ""
        return Program(ChatExample(name, text, ast.unparse(node), *place), error)
    request = f"{function.head}{as_source(function.docstring)}".rstrip("\n")
    return Program(ChatExample(name, request, f"{function.program.rstrip()}\n", *place))


def _answers(folders: list[Path]) -> Iterator[tuple[str, Callable[[], Program]]]:
    import pyarrow.parquet as pq

    columns = ["problem_id", "messages", "source", "path", "licence", "tests"]
    for folder in folders:
        for batch in pq.ParquetFile(folder / DATA_FILE).iter_batches(batch_size=256, columns=columns):
            for row in batch.to_pylist():
                name = f"edits/{row['problem_id']}"
                yield name, partial(_answer, name, row)


def _answer(name: str, row: Mapping[str, Any]) -> Program:
    turns = {message["role"]: message["content"] for message in row["messages"]}
    answer = code_of_answer(turns["assistant"], "").rstrip()
    if answer[:1] in (" ", "\t"):  # a body: the program is the request with it
        answer = f"{turns['user']}\n{answer}"
    answer = "".join(f"{line.rstrip()}\n" for line in answer.split("\n"))
    return Program(
        ChatExample(name, turns["user"], answer, row["source"], row["path"], row["licence"], row["tests"])
    )
