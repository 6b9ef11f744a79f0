"""Stage ``doctest_functions``: documented functions whose own examples are their hidden tests.

From the clean Python corpus (slot ``corpus``; its sources and licences): functions that stand alone with
their helpers (`standalone.py`), have examples that can be tests (`doctests.py`), pass them in the sandbox,
and fail them when their body is ``return None``. Helpers' docstrings are dropped and hidden examples taken
out of the prompt, so no expected value enters the sandbox or is seen by a model.

Writes ``problems.jsonl`` (for RL and evaluation), ``train.parquet`` (chat: the prompt, and the body that
completes it), ``rejected.parquet`` and ``steps.json`` (`chat_files.py`). Memory: all functions with doctests,
some 5 kB each (a gigabyte for 200,000), and 120 bytes an n-gram of the benchmarks.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codellm_dag.corpora.documents import Document
from codellm_dag.problems.chat_files import ChatExample, Contamination, Repeats, Sieve
from codellm_dag.problems.doctests import as_source, examples_as_tests, examples_of, without_examples
from codellm_dag.problems.execution import Runner, Trial, check_undecided, open_runner
from codellm_dag.problems.programs import user_message
from codellm_dag.problems.python_modules import Module, python_modules
from codellm_dag.problems.schema import Problem, write_problems
from codellm_dag.problems.standalone import Function, NotAloneError, documented, standalone
from codellm_dag.recipes.sft_sources import DoctestFunctionsRecipe
from codellm_dag.stages.protocol import Inputs, Report

STEPS = ("alone", "length", "tests", "duplicate", "decontamination", "execution", "mutation")
BENCHMARK = "doctest"
_BATCH = 256
_STEP_OF = {"length": "length", "tests": "tests", "prose": "tests"}


@dataclass(frozen=True)
class Candidate:
    """A function with doctests as a problem and as a chat example."""

    problem: Problem
    example: ChatExample


def run(recipe: DoctestFunctionsRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Mine slot ``corpus`` and compare with every benchmark in the slots ``benchmark/*``.

    Metrics: seen (functions with doctests), examples, rejected, tests, undecided. Raises ValueError without a
    benchmark or when nothing is left, UndecidedError where the sandbox fails too often.
    """
    contamination = Contamination(recipe.decontamination, inputs)
    kept: list[Problem] = []
    undecided = 0
    with Sieve(out, STEPS) as sieve:
        candidates = list(_candidates(recipe, inputs["corpus"].path, sieve, contamination))
        with open_runner(recipe.execution, report.runtime.workers) as runner:
            for start in range(0, len(candidates), _BATCH):
                report.progress(start, len(candidates), "functions")
                batch = candidates[start : start + _BATCH]
                for candidate, step, ending, detail in _verified(batch, runner):
                    undecided += ending == "undecided"
                    if step:
                        sieve.reject(candidate.example, step, ending, detail)
                    else:
                        sieve.keep(candidate.example)
                        kept.append(candidate.problem)
        check_undecided(undecided, len(candidates) - undecided, recipe.maximum_undecided)
        if not kept:
            raise ValueError(
                f"of {sieve.counts()['total']['documents_in']} functions with doctests none is left; look at "
                "the sources of raw_corpus"
            )
        write_problems(out, kept)
        report.progress(len(candidates), len(candidates), "functions")
    sieve.finish(report)
    report.metric(tests=sum(len(problem.tests) for problem in kept), undecided=undecided)


def _verified(batch: list[Candidate], runner: Runner) -> Iterator[tuple[Candidate, str, str, str]]:
    """Each candidate with the step that rejects it ('' if none does), the reason and the detail."""
    empty = "    return None\n"
    references = runner.run([_trial(item.problem, item.problem.reference) for item in batch])
    mutants = runner.run([_trial(item.problem, empty) for item in batch])
    for candidate, reference, mutant in zip(batch, references, mutants, strict=True):
        if reference.ending != "passed":
            yield candidate, "execution", reference.ending, reference.detail
        elif mutant.ending == "undecided":
            yield candidate, "mutation", "undecided", mutant.detail
        elif mutant.ending == "passed":
            yield candidate, "mutation", "passes_without_body", "return None passes its tests too"
        else:
            yield candidate, "", "", ""


def _trial(problem: Problem, body: str) -> Trial:
    return Trial(problem.program(body), problem.entry_point, problem.tests)


def _candidates(
    recipe: DoctestFunctionsRecipe, corpus: Path, sieve: Sieve, contamination: Contamination
) -> Iterator[Candidate]:
    """Functions that are worth running; the others go to the sieve with their reason."""
    repeats = Repeats()
    seen = 0
    for module, node in _with_doctests(corpus):
        if recipe.maximum_functions and seen == recipe.maximum_functions:
            return
        seen += 1
        try:
            candidate = _candidate(recipe, module.document, standalone(module.tree, module.lines, node))
        except NotAloneError as error:
            raw = _example(module.document, node.name, ast.get_docstring(node) or "", ast.unparse(node))
            sieve.reject(raw, _STEP_OF.get(error.reason, "alone"), error.reason, error.detail)
            continue
        if found := repeats.first(candidate.example):
            sieve.reject(candidate.example, "duplicate", "duplicate", found)
        elif overlap := contamination.of(candidate.example):
            sieve.reject(candidate.example, "decontamination", overlap.reason, overlap.detail)
        else:
            yield candidate


def _with_doctests(corpus: Path) -> Iterator[tuple[Module, ast.FunctionDef]]:
    for module in python_modules(corpus, holding=">>>"):
        for node in documented(module.tree):
            if examples_of(ast.get_docstring(node) or ""):
                yield module, node


def _candidate(recipe: DoctestFunctionsRecipe, document: Document, function: Function) -> Candidate:
    """The function as problem and example. Raises NotAloneError ``length``, ``tests`` or ``prose``."""
    length = function.program.count("\n")
    if length > recipe.maximum_lines:
        raise NotAloneError("length", f"{length} lines")
    examples = examples_of(function.docstring)
    tests = examples_as_tests(examples, function.name)
    numbers = sorted({number for number, _ in tests})
    if not numbers:
        raise NotAloneError("tests", f"none of {len(examples)} examples is a call with a literal result")
    shown = numbers[: min(recipe.shown_examples, len(numbers) - 1)]
    hidden = [test for number, test in tests if number not in shown]
    docstring = without_examples(function.docstring, examples, shown)
    if not docstring.strip():
        raise NotAloneError("prose", "its docstring is nothing but examples")
    gap = "\n\n" if function.helpers else ""
    indent = function.body[: len(function.body) - len(function.body.lstrip())] or "    "
    problem = Problem(
        problem_id=_name(document, function.name),
        benchmark=BENCHMARK,
        prompt=f"{function.helpers}{gap}{function.head}{as_source(docstring, indent)}",
        entry_point=function.name,
        reference=function.body,
        tests=tuple(hidden),
        split="train",
    )
    tests_json = json.dumps(
        {"entry_point": function.name, "tests": [test.model_dump(mode="json") for test in hidden]}
    )
    request = user_message(problem)
    example = _example(document, function.name, request, function.body.rstrip("\n"), tests_json)
    return Candidate(problem, example)


def _name(document: Document, function: str) -> str:
    return f"{BENCHMARK}/{document.source}/{document.path}:{function}"


def _example(document: Document, function: str, request: str, answer: str, tests: str = "") -> ChatExample:
    return ChatExample(
        _name(document, function), request, answer, document.source, document.path, document.licence, tests
    )
