"""Functions mined from doctests: which are kept, what a model sees of them, and what runs where."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codellm_dag.problems import doctest_functions
from codellm_dag.problems.grading import open_sandbox
from codellm_dag.problems.programs import program_from_answer
from codellm_dag.problems.schema import read_problems
from codellm_dag.recipes.execution import ExecutionRecipe
from codellm_dag.recipes.sft_sources import DoctestFunctionsRecipe
from codellm_dag.rl.rewards import check_rewardable
from codellm_dag.stages.protocol import Inputs, LocalArtifact
from codellm_dag.training.chat_examples import read_messages
from tests.modelkit.tiny import RecordingReport

Corpus = Callable[[Mapping[str, str]], LocalArtifact]

GOOD = textwrap.dedent(
    '''
    import math

    def _half(x):
        """Half of x.

        >>> _half(8)
        4.0
        """
        return x / 2

    def area(radius, parts=1):
        """Area of a circle of a whole radius, rounded down.

        >>> area(1)
        3
        >>> area(2)
        12
        >>> area(2, parts=2)
        6
        """
        # pi r squared
        return math.floor(_half(2 * math.pi * radius**2) / parts)
    '''
)
OTHERS = textwrap.dedent(
    '''
    import numpy

    def wrong(x):
        """Its documentation is out of date.

        >>> wrong(1)
        2
        """
        return x

    def nothing(x):
        """Gives None, so an empty body passes too.

        >>> nothing(1) is None
        True
        """
        x += 1

    def package(x):
        """Needs numpy.

        >>> package(1)
        1
        """
        return numpy.int64(x)

    def printed(x):
        """Its examples only print.

        >>> print(printed(1))
        1
        """
        return x

    def bare(x):
        """
        >>> bare(1)
        1
        """
        return x

    def endless(x):
        """Never ends.

        >>> endless(1)
        1
        """
        while x:
            pass

    def halved(first, second):
        """Add the first number to the second, then halve what came out.

        >>> halved(1, 3)
        2.0
        """
        return (first + second) / 2

    def undocumented(x):
        return x
    '''
)
RECIPE = DoctestFunctionsRecipe(execution=ExecutionRecipe(cpu_seconds=0.5))


def run(recipe: DoctestFunctionsRecipe, inputs: Inputs, out: Path) -> RecordingReport:
    out.mkdir()
    report = RecordingReport(out)
    doctest_functions.run(recipe, inputs, out, report)
    return report


def test_a_function_becomes_a_problem_whose_tests_are_not_in_its_prompt(
    tmp_path: Path, corpus: Corpus, benchmark_inputs: Inputs
) -> None:
    inputs = Inputs({**benchmark_inputs, "corpus": corpus({"pkg/shapes.py": GOOD})})
    report = run(RECIPE, inputs, tmp_path / "out")
    problems = {problem.entry_point: problem for problem in read_problems(tmp_path / "out")}
    assert list(problems) == ["_half", "area"]
    area = problems["area"]
    assert area.problem_id == "doctest/lib@1/pkg/shapes.py:area"
    assert area.prompt == textwrap.dedent(
        '''\
        import math


        def _half(x):
            return x / 2


        def area(radius, parts=1):
            """Area of a circle of a whole radius, rounded down.

            >>> area(1)
            3
            """
        '''
    )
    assert area.reference == (
        "    # pi r squared\n    return math.floor(_half(2 * math.pi * radius**2) / parts)\n"
    )
    assert [(test.call.args, dict(test.call.kwargs), test.expected) for test in area.tests] == [
        (("2",), {}, "12"),
        (("2",), {"parts": "2"}, "6"),
    ]
    assert ">>>" not in problems["_half"].prompt, "a single example is the hidden test"
    assert report.metrics["tests"] == 3
    check_rewardable(list(problems.values()))


def test_the_chat_answer_solves_the_problem(tmp_path: Path, corpus: Corpus, benchmark_inputs: Inputs) -> None:
    inputs = Inputs({**benchmark_inputs, "corpus": corpus({"shapes.py": GOOD})})
    run(RECIPE, inputs, tmp_path / "out")
    problems = read_problems(tmp_path / "out")
    rows = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    assert {(row["source"], row["path"], row["licence"]) for row in rows} == {("lib@1", "shapes.py", "MIT")}
    assert json.loads(rows[1]["tests"])["entry_point"] == "area"
    answers = {row["problem_id"]: row["messages"][1]["content"] for row in rows}
    with open_sandbox(ExecutionRecipe(), 1) as grade:
        grades = grade([(p, program_from_answer(p, answers[p.problem_id])) for p in problems])
    assert [(grade.verdict, grade.judged) for grade in grades] == [("pass", "outside")] * 2
    assert len(read_messages(tmp_path / "out")) == 2


def test_what_is_left_out_says_why(tmp_path: Path, corpus: Corpus, benchmark_inputs: Inputs) -> None:
    files = {"a.py": GOOD, "b.py": OTHERS, "c.py": GOOD, "d.py": "def broken(:\n  '>>> x'\n"}
    inputs = Inputs({**benchmark_inputs, "corpus": corpus(files)})
    report = run(RECIPE, inputs, tmp_path / "out")
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    found = {
        row["problem_id"].removeprefix("doctest/lib@1/"): (row["step"], row["reason"]) for row in rejected
    }
    assert found == {
        "b.py:wrong": ("execution", "failed"),
        "b.py:nothing": ("mutation", "passes_without_body"),
        "b.py:package": ("alone", "import"),
        "b.py:printed": ("tests", "tests"),
        "b.py:bare": ("tests", "prose"),
        "b.py:endless": ("execution", "timeout"),
        "b.py:halved": ("decontamination", "benchmark/bench"),
        "c.py:_half": ("duplicate", "duplicate"),
        "c.py:area": ("duplicate", "duplicate"),
    }
    assert (report.metrics["seen"], report.metrics["examples"], report.metrics["undecided"]) == (11, 2, 0)


def test_limits_and_bytes(tmp_path: Path, corpus: Corpus, benchmark_inputs: Inputs) -> None:
    inputs = Inputs({**benchmark_inputs, "corpus": corpus({"a.py": GOOD, "b.py": OTHERS})})
    report = run(RECIPE.with_changes({"maximum_functions": 1}), inputs, tmp_path / "first")
    assert (report.metrics["seen"], report.metrics["examples"]) == (1, 1)
    shown = run(RECIPE.with_changes({"shown_examples": 5}), inputs, tmp_path / "shown")
    assert shown.metrics["tests"] == 2, "one test always stays hidden"
    report = run(RECIPE.with_changes({"maximum_lines": 2}), inputs, tmp_path / "short")
    assert [problem.entry_point for problem in read_problems(tmp_path / "short")] == ["_half"]
    for name in ("one", "two"):
        run(RECIPE, inputs, tmp_path / name)
    for name in ("problems.jsonl", "train.parquet", "rejected.parquet", "steps.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_bad_inputs(tmp_path: Path, corpus: Corpus, benchmark_inputs: Inputs) -> None:
    inputs = Inputs({**benchmark_inputs, "corpus": corpus({"a.py": "x = 1\n"})})
    with pytest.raises(ValueError, match="of 0 functions with doctests none is left"):
        run(RECIPE, inputs, tmp_path / "one")
    with pytest.raises(ValueError, match="no benchmark in the slots"):
        run(RECIPE, Inputs({"corpus": inputs["corpus"]}), tmp_path / "two")
