"""Instruction data through the execution filter: what stays, what goes and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codellm_dag.corpora.bounds import implausible_removals, read_steps
from codellm_dag.corpora.errors import CorpusError
from codellm_dag.problems import executed_examples
from codellm_dag.problems.instruction_files import resolve
from codellm_dag.problems.instruction_rows import InvalidTestsError, read_tests
from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.removal_bounds import ExampleBounds
from codellm_dag.recipes.sft_sources import ExecutedExamplesRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training.chat_examples import read_messages
from tests.modelkit.tiny import RecordingReport, artifact

GOOD = "Here it is:\n```python\ndef double(x):\n    return 2 * x\n```\nIt doubles."
ROWS: dict[str, dict[str, Any]] = {
    "passes": {"answer": GOOD, "tests": "assert double(2) == 4\nassert double('a') == 'aa'"},
    "list of assertions": {"answer": "def one():\n    return 1", "tests": ["assert one() == 1"]},
    "standard input": {"answer": "print(input()[::-1])", "tests": [{"stdin": "ab\n", "stdout": "ba"}]},
    "input and output": {"answer": "print(input())", "tests": json.dumps([{"input": "a", "output": "a"}])},
    "calls": {"answer": "def f(x):\n    return x", "tests": [{"call": {"args": ["[1]"]}, "expected": "[1]"}]},
    "a body": {
        "instruction": 'def inc(x):\n    """One more."""',
        "answer": "    return x + 1",
        "tests": {"entry_point": "inc", "tests": [{"call": {"args": ["1"]}, "expected": "2"}]},
    },
    "fails": {"answer": "def half(x):\n    return x", "tests": "assert half(2) == 1"},
    "knows how to cheat": {
        "answer": "class E(int):\n    def __eq__(self, o): return True\ndef f(x):\n    return E(3)",
        "tests": "assert f(2) == 4",
    },
    "loops": {"answer": "def f(x):\n    while x: pass", "tests": "assert f(2) == 4"},
    "crashes": {"answer": "import os\nos.abort()\ndef f(): pass", "tests": "assert f() == 4"},
    "no tests": {"answer": "def f(): pass", "tests": []},
    "null tests": {"answer": "def f(): pass", "tests": None},
    "no data": {"answer": "def f(): return id", "tests": "assert f() is id"},
    "broken tests": {"answer": "def f(): pass", "tests": "assert f( =="},
    "mixed tests": {"answer": "def f(): pass", "tests": ["assert f()", {"stdin": ""}]},
    "no answer": {"answer": " ", "tests": "assert f()"},
    "too large": {"answer": "x = 1\n" * 10_000, "tests": "assert f()"},
    "repeated": {"answer": GOOD, "tests": "assert double(2) == 4"},
    "contaminated": {
        "instruction": "Add the first number to the second, then halve what came out.",
        "answer": "def f(a, b):\n    return (a + b) / 2",
        "tests": "assert f(1, 3) == 2",
    },
}
REASONS = {
    "fails": ("execution", "failed"),
    "knows how to cheat": ("execution", "failed"),
    "loops": ("execution", "timeout"),
    "crashes": ("execution", "error"),
    "no tests": ("tests", "no_tests"),
    "null tests": ("tests", "no_tests"),
    "no data": ("tests", "not_data"),
    "broken tests": ("tests", "unreadable"),
    "mixed tests": ("tests", "unreadable"),
    "no answer": ("code", "empty"),
    "too large": ("code", "too_large"),
    "repeated": ("duplicate", "duplicate"),
    "contaminated": ("decontamination", "benchmark/bench"),
}


def write(path: Path, rows: dict[str, dict[str, Any]]) -> Path:
    lines = [
        {"instruction": "Double it." if name == "repeated" else f"Do: {name}", **row}
        for name, row in rows.items()
    ]
    lines[0]["instruction"] = "Double it."
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def recipe(path: Path | str, **more: Any) -> ExecutedExamplesRecipe:
    values = {"path": str(path), "licence": "MIT", "execution": {"cpu_seconds": 0.5}, **more}
    return resolve(ExecutedExamplesRecipe.parse(values))


def run(recipe: ExecutedExamplesRecipe, inputs: Inputs, out: Path) -> RecordingReport:
    out.mkdir()
    report = RecordingReport(out)
    executed_examples.run(recipe, inputs, out, report)
    return report


def test_only_what_passes_stays_and_the_rest_says_why(tmp_path: Path, benchmark_inputs: Inputs) -> None:
    names = list(ROWS)
    report = run(recipe(write(tmp_path / "data.jsonl", ROWS)), benchmark_inputs, tmp_path / "out")
    kept = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    kept_names = [names[int(row["path"].rpartition(":")[2]) - 1] for row in kept]
    assert kept_names == [name for name in names if name not in REASONS]
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    found = {names[int(row["path"].rpartition(":")[2]) - 1]: (row["step"], row["reason"]) for row in rejected}
    assert found == REASONS
    assert kept[0]["messages"] == [
        {"role": "user", "content": "Double it."},
        {"role": "assistant", "content": GOOD},
    ]
    assert {(row["source"], row["licence"]) for row in kept} == {("data", "MIT")}
    counts = {"seen": 19, "examples": 6, "rejected": 13, "failed": 4, "undecided": 0, "judged_inside": 0}
    assert report.metrics == counts
    assert len(read_messages(tmp_path / "out")) == 6, "fine-tuning reads it"


def test_steps_json_has_the_rates_that_bounds_judge(tmp_path: Path, benchmark_inputs: Inputs) -> None:
    run(recipe(write(tmp_path / "data.jsonl", ROWS)), benchmark_inputs, tmp_path / "out")
    steps = read_steps(tmp_path / "out" / "steps.json")
    assert [(step["step"], step["documents_in"], step["documents_out"]) for step in steps["steps"]] == [
        ("code", 19, 17),
        ("tests", 17, 12),
        ("duplicate", 12, 11),
        ("decontamination", 11, 10),
        ("execution", 10, 6),
    ]
    assert steps["steps"][4]["reasons"] == {"error": 1, "failed": 2, "timeout": 1}
    bounds = ExampleBounds(code=1.0, decontamination=0.2, total=1.0)
    assert implausible_removals(steps, bounds) == []
    stricter = bounds.with_changes({"execution": 0.35})
    found, *_ = [str(removal) for removal in implausible_removals(steps, stricter)]
    assert found.startswith("execution removed 40.0% of the documents of all, at most 35.0% is plausible")
    assert found.endswith("raise ExampleBounds.execution")


def test_twice_is_the_same_bytes(tmp_path: Path, benchmark_inputs: Inputs) -> None:
    made = recipe(write(tmp_path / "data.jsonl", ROWS))
    for name in ("one", "two"):
        run(made, benchmark_inputs, tmp_path / name)
    for name in ("train.parquet", "rejected.parquet", "steps.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_tests_that_are_no_data_may_be_judged_inside_and_are_counted(
    tmp_path: Path, benchmark_inputs: Inputs
) -> None:
    rows = {name: ROWS[name] for name in ("passes", "no data")}
    made = recipe(write(tmp_path / "data.jsonl", rows), judged_inside=True)
    report = run(made, benchmark_inputs, tmp_path / "out")
    assert (report.metrics["examples"], report.metrics["judged_inside"]) == (2, 1)


def test_a_folder_of_parquet_and_json_lines_in_order_of_name(
    tmp_path: Path, benchmark_inputs: Inputs
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    row = {"q": "Double.", "a": GOOD, "t": ["assert double(1) == 2"], "f": "double", "l": "BSD-3-Clause"}
    pq.write_table(pa.Table.from_pylist([row]), folder / "b.parquet")
    (folder / "a.jsonl").write_text(json.dumps({**row, "q": "Twice."}) + "\n")
    (folder / "notes.txt").write_text("no data")
    fields = {"instruction_field": "q", "answer_field": "a", "tests_field": "t"}
    made = recipe(folder, **fields, entry_point_field="f", licence_field="l", licence="", name="mine")
    run(made, benchmark_inputs, tmp_path / "out")
    kept = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    assert [(row["problem_id"], row["licence"]) for row in kept] == [
        ("executed/mine/a.jsonl:1", "BSD-3-Clause"),
        ("executed/mine/b.parquet:1", "BSD-3-Clause"),
    ]
    report = run(made.with_changes({"maximum_samples": 1}), benchmark_inputs, tmp_path / "one")
    assert report.metrics["seen"] == 1


def test_the_digest_is_of_the_content_and_is_checked(tmp_path: Path, benchmark_inputs: Inputs) -> None:
    path = write(tmp_path / "data.jsonl", ROWS)
    made = recipe(path)
    assert resolve(made) == made
    path.write_text(path.read_text() + "\n")
    assert recipe(path).content_digest != made.content_digest
    with pytest.raises(CorpusError, match="they have changed: run again"):
        run(made, benchmark_inputs, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"data\.jsonl:1: not a JSON object"),
        ("[1]", r"data\.jsonl:1: not a JSON object but a list"),
        ('{"answer": ""}', r"data\.jsonl:1: no field 'instruction'; there: answer"),
        ('{"instruction": 1, "answer": "", "tests": ""}', r"'instruction' holds a int; allowed: text"),
    ],
)
def test_a_row_that_is_none_is_named(
    tmp_path: Path, benchmark_inputs: Inputs, text: str, message: str
) -> None:
    (tmp_path / "data.jsonl").write_text(f"{text}\n")
    with pytest.raises(CorpusError, match=message):
        run(recipe(tmp_path / "data.jsonl"), benchmark_inputs, tmp_path / "out")


def test_bad_recipes_and_inputs(tmp_path: Path, benchmark_inputs: Inputs) -> None:
    with pytest.raises(InvalidRecipeError, match="`path` need `licence`"):
        ExecutedExamplesRecipe.parse({"path": "x.jsonl"})
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"allowed: a \.jsonl or \.parquet file, or a folder"):
        recipe(tmp_path / "empty")
    with pytest.raises(CorpusError, match="neither `path` nor the input examples"):
        run(ExecutedExamplesRecipe(), benchmark_inputs, tmp_path / "one")
    path = write(tmp_path / "data.jsonl", {"fails": ROWS["fails"]})
    with pytest.raises(ValueError, match="no benchmark in the slots"):
        run(recipe(path), Inputs({}), tmp_path / "two")
    with pytest.raises(ValueError, match="no sample of 1 is left"):
        run(recipe(path), benchmark_inputs, tmp_path / "three")
    pq.write_table(pa.table({"messages": ["x"]}), tmp_path / "train.parquet")
    inputs = Inputs({**benchmark_inputs, "examples": artifact(tmp_path)})
    with pytest.raises(CorpusError, match="no column 'problem_id'"):
        run(ExecutedExamplesRecipe(), inputs, tmp_path / "four")


def test_the_function_is_the_one_that_the_assertions_call_first() -> None:
    code = "def helper(x):\n    return x\n\ndef wanted(x):\n    return helper(x)\n"
    assert read_tests("assert len(wanted([1])) == 1", "", code).entry_point == "wanted"
    assert read_tests("assert other(1) == 1", "", code).leftover == "assert other(1) == 1"
    assert read_tests([{"call": {}, "expected": "1"}], "", code).entry_point == "wanted"


@pytest.mark.parametrize(
    "field", [3, [1], [{"call": {"args": ["f()"]}, "expected": "1"}], [{"call": {}, "expected": "open"}]]
)
def test_tests_of_an_unknown_form_are_refused(field: Any) -> None:
    with pytest.raises(InvalidTestsError):
        read_tests(field, "f", "")
