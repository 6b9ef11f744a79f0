"""Edit sequences of functions and of chat answers, as chat examples."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.problems import edit_sequences, executed_examples
from codellm_dag.problems.instruction_files import resolve
from codellm_dag.problems.lintseq import apply_edits, edits_in, error_lines
from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.sft_sources import EditSequencesRecipe, ExecutedExamplesRecipe
from codellm_dag.stages.protocol import Inputs, LocalArtifact
from codellm_dag.training.chat_examples import read_messages
from tests.modelkit.tiny import RecordingReport, artifact

Corpus = Callable[[Mapping[str, str]], LocalArtifact]

SOURCE = textwrap.dedent(
    '''
    LIMIT = 2

    def cut(items):
        """Keep the first items.

        Of any sequence.
        """
        kept = []
        for item in items:
            if len(kept) == LIMIT:
                break
            kept.append(item)
        return kept

    def short(x):
        """One line is too short."""
        return x

    def marked(x):
        """Holds the separator."""
        a = x
        b = "<|diff|>"
        return a, b

    def undefined_later(x):
        """Deletes a name that it then uses."""
        y = x
        del y
        return y

    def halved(first, second):
        """Add the first number to the second, then halve what came out."""
        total = first + second
        half = total / 2
        return half
    '''
)
WRITTEN = textwrap.dedent(
    """\
    LIMIT = 2


    def cut(items):
        kept = []
        for item in items:
            if len(kept) == LIMIT:
                break
            kept.append(item)
        return kept
    """
)


def run(
    recipe: EditSequencesRecipe, inputs: Inputs, out: Path
) -> tuple[RecordingReport, list[dict[str, Any]]]:
    out.mkdir()
    report = RecordingReport(out)
    edit_sequences.run(recipe, inputs, out, report)
    return report, pq.read_table(out / "train.parquet").to_pylist()


def states(row: dict[str, Any]) -> list[str]:
    return list(apply_edits(edits_in(row["messages"][1]["content"])))


def test_a_function_is_asked_for_by_its_docstring_and_written_by_edits(
    tmp_path: Path, corpus: Corpus, benchmark_inputs: Inputs
) -> None:
    inputs = Inputs({**benchmark_inputs, "corpus": corpus({"a.py": SOURCE})})
    report, rows = run(EditSequencesRecipe(), inputs, tmp_path / "out")
    (row,) = rows
    assert row["problem_id"] == "edits/lib@1/a.py:cut"
    assert (row["path"], row["licence"]) == ("a.py", "MIT")
    assert row["messages"][0]["content"] == (
        'def cut(items):\n    """Keep the first items.\n\n    Of any sequence.\n    """'
    )
    found = states(row)
    assert found[-1] == WRITTEN
    assert not any(error_lines(state.split("\n")[:-1]) for state in found)
    assert report.metrics["edits"] == len(found)
    assert len(read_messages(tmp_path / "out")) == 1
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert {row["problem_id"].rpartition(":")[2]: (row["step"], row["reason"]) for row in rejected} == {
        "short": ("length", "short"),
        "marked": ("lint", "error"),
        "undefined_later": ("lint", "error"),
        "halved": ("decontamination", "benchmark/bench"),
    }


def test_several_sequences_differ_and_each_writes_the_program(
    tmp_path: Path, corpus: Corpus, benchmark_inputs: Inputs
) -> None:
    inputs = Inputs({**benchmark_inputs, "corpus": corpus({"a.py": SOURCE})})
    _, rows = run(EditSequencesRecipe(sequences=6), inputs, tmp_path / "out")
    answers = [row["messages"][1]["content"] for row in rows]
    assert len(set(answers)) == len(answers) > 2
    assert {states(row)[-1] for row in rows} == {WRITTEN}
    assert rows[1]["problem_id"] == "edits/lib@1/a.py:cut#1"


def test_a_seed_is_a_choice_of_edits_and_the_same_seed_the_same_bytes(
    tmp_path: Path, corpus: Corpus, benchmark_inputs: Inputs
) -> None:
    inputs = Inputs({**benchmark_inputs, "corpus": corpus({"a.py": SOURCE})})
    for name in ("one", "two"):
        run(EditSequencesRecipe(), inputs, tmp_path / name)
    for name in ("train.parquet", "rejected.parquet", "steps.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    answers = set()
    for seed in range(4):
        _, rows = run(EditSequencesRecipe(seed=seed), inputs, tmp_path / f"seed{seed}")
        answers.add(rows[0]["messages"][1]["content"])
    assert len(answers) > 1


def test_a_number_of_programs_is_chosen_whatever_the_order_of_files(
    tmp_path: Path, corpus: Corpus, benchmark_inputs: Inputs
) -> None:
    files = {
        f"{name}.py": f'def {name}(x):\n    """Do {name}."""\n    y = x\n    return y + {number}\n'
        for number, name in enumerate("abcdefgh")
    }
    recipe = EditSequencesRecipe(maximum_programs=3, minimum_lines=1)
    chosen = []
    for name, order in (("one", files), ("two", dict(reversed(files.items())))):
        _, rows = run(recipe, Inputs({**benchmark_inputs, "corpus": corpus(order)}), tmp_path / name)
        chosen.append(sorted(row["problem_id"] for row in rows))
    assert len(chosen[0]) == 3
    assert chosen[0] == chosen[1]


def test_answers_of_other_examples_keep_their_request_and_tests(
    tmp_path: Path, benchmark_inputs: Inputs
) -> None:
    rows = [
        {
            "instruction": "Double it twice.",
            "answer": "Sure:\n```python\ndef f(x):\n    y = 2 * x\n    z = 2 * y\n    return z\n```",
            "tests": "assert f(1) == 4",
        },
        {
            "instruction": 'def g(x):\n    """Double."""',
            "answer": "    y = 2 * x\n    return y",
            "tests": {"entry_point": "g", "tests": [{"call": {"args": ["1"]}, "expected": "2"}]},
        },
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "executed").mkdir()
    made = resolve(ExecutedExamplesRecipe(path=str(tmp_path / "rows.jsonl"), licence="MIT"))
    executed_examples.run(made, benchmark_inputs, tmp_path / "executed", RecordingReport(tmp_path))
    inputs = Inputs({**benchmark_inputs, "examples/executed_examples": artifact(tmp_path / "executed")})
    _, found = run(EditSequencesRecipe(programs="examples"), inputs, tmp_path / "out")
    assert [row["messages"][0]["content"] for row in found] == [row["instruction"] for row in rows]
    assert [states(row)[-1] for row in found] == [
        "def f(x):\n    y = 2 * x\n    z = 2 * y\n    return z\n",
        'def g(x):\n    """Double."""\n    y = 2 * x\n    return y\n',
    ]


def test_bad_recipes_and_inputs(tmp_path: Path, corpus: Corpus, benchmark_inputs: Inputs) -> None:
    with pytest.raises(InvalidRecipeError, match="minimum_lines must not be above maximum_lines"):
        EditSequencesRecipe.parse({"minimum_lines": 9, "maximum_lines": 8})
    with pytest.raises(CorpusError, match="need the input corpus"):
        run(EditSequencesRecipe(), benchmark_inputs, tmp_path / "one")
    with pytest.raises(CorpusError, match="materialize doctest_functions or executed_examples first"):
        run(EditSequencesRecipe(programs="examples"), benchmark_inputs, tmp_path / "two")
    inputs = Inputs({**benchmark_inputs, "corpus": corpus({"a.py": "x = 1\n"})})
    with pytest.raises(ValueError, match="of 0 programs none is left"):
        run(EditSequencesRecipe(), inputs, tmp_path / "three")
