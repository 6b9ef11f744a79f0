"""Datasets of instructions as they are: what goes and why, and what a recipe of them refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.problems import instruction_data
from codellm_dag.problems.instruction_files import resolve_dataset
from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.sft_sources import InstructionDataRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training.chat_examples import read_messages
from tests.modelkit.tiny import RecordingReport

ROWS = [
    {
        "problem": "Reverse a text.",
        "solution": "```python\ndef f(x):\n    return x[::-1]\n```",
        "lang": "python",
    },
    {
        "problem": "Reverse  a text.",
        "solution": "```python\ndef f(x):\n  return x[::-1]\n```",
        "lang": "python",
    },
    {"problem": "Say nothing.", "solution": None, "lang": "python"},
    {"problem": "Much.", "solution": "x = 1\n" * 100, "lang": "python"},
    {"problem": "Drucke eins.", "solution": 'fn main() { println!("1") }', "lang": "rust"},
    {"problem": "Add the first number to the second, then halve what came out.", "solution": "(a + b) / 2"},
]


def recipe(path: Path, **more: Any) -> InstructionDataRecipe:
    fields = {"instruction_field": "problem", "answer_field": "solution", "maximum_bytes": 200, **more}
    one = {"name": "magic", "path": str(path), "licence": "MIT", **fields}
    other = {"name": "other", "path": str(path), "licence": "MIT"}
    return resolve_dataset(InstructionDataRecipe.parse({"datasets": [one, other]}), "magic")


def run(recipe: InstructionDataRecipe, inputs: Inputs, out: Path) -> RecordingReport:
    out.mkdir()
    report = RecordingReport(out)
    instruction_data.run(recipe, inputs, out, report)
    return report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset as the Hub's client leaves it: files in folders, and what is no data beside them."""
    root = tmp_path / "magic"
    (root / "one").mkdir(parents=True)
    (root / ".cache").mkdir()
    (root / "README.md").write_text("a card")
    (root / ".cache" / "old.jsonl").write_text("{}")
    (root / "one" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:4]))
    pq.write_table(pa.Table.from_pylist(ROWS[4:]), root / "two.parquet")
    return root


def test_what_stays_needs_no_tests_and_the_rest_says_why(
    tmp_path: Path, folder: Path, benchmark_inputs: Inputs
) -> None:
    report = run(recipe(folder), benchmark_inputs, tmp_path / "out")
    kept = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    assert [(row["path"], row["source"], row["licence"], row["language"]) for row in kept] == [
        ("one/train.jsonl:1", "magic", "MIT", ""),
        ("two.parquet:1", "magic", "MIT", ""),
    ]
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert [(row["path"], row["step"], row["reason"]) for row in rejected] == [
        ("one/train.jsonl:2", "duplicate", "duplicate"),
        ("one/train.jsonl:3", "code", "empty"),
        ("one/train.jsonl:4", "code", "too_large"),
        ("two.parquet:2", "decontamination", "benchmark/bench"),
    ]
    assert report.metrics == {"seen": 6, "examples": 2, "rejected": 4}
    assert read_messages(tmp_path / "out")[1] == [
        {"role": "user", "content": "Drucke eins."},
        {"role": "assistant", "content": 'fn main() { println!("1") }'},
    ]


def test_the_recipe_of_one_dataset_has_its_digest_and_not_the_others(folder: Path) -> None:
    first = recipe(folder)
    assert (first.names(), first.datasets[0].path) == (["magic"], str(folder))
    (folder / "README.md").write_text("another card")
    assert recipe(folder) == first, "only its rows are what it is"
    (folder / "one" / "train.jsonl").write_text(json.dumps(ROWS[0]))
    assert recipe(folder).datasets[0].content_digest != first.datasets[0].content_digest


def test_files_that_changed_since_the_launch_are_refused(
    tmp_path: Path, folder: Path, benchmark_inputs: Inputs
) -> None:
    launched = recipe(folder)
    (folder / "two.parquet").unlink()
    with pytest.raises(CorpusError, match="its files are not those of the recipe"):
        run(launched, benchmark_inputs, tmp_path / "out")


def test_fields_that_are_not_there_are_named(tmp_path: Path, folder: Path, benchmark_inputs: Inputs) -> None:
    with pytest.raises(CorpusError, match=r"one/train.jsonl:1: no field 'answer'; there: lang, problem"):
        run(recipe(folder, answer_field="answer"), benchmark_inputs, tmp_path / "out")


def test_nothing_left_is_an_error(tmp_path: Path, benchmark_inputs: Inputs) -> None:
    path = tmp_path / "magic.jsonl"
    path.write_text(json.dumps(ROWS[2]))
    with pytest.raises(ValueError, match="magic: no sample of 1 is left"):
        run(recipe(path), benchmark_inputs, tmp_path / "out")


@pytest.mark.parametrize(
    ("datasets", "said"),
    [
        ([{"name": "a", "path": "/x"}], r"samples of `path` need `licence` \(SPDX\) or `licence_field`"),
        ([{"name": "a", "path": "", "licence": "MIT"}], r"datasets\.0\.path"),
        ([{"name": "1e3", "path": "/x", "licence": "MIT"}], r"datasets\.0\.name"),
        ([{"name": "a", "path": "/x", "licence": "MIT"}] * 2, "'datasets' names a more than once"),
    ],
)
def test_recipes_that_are_refused(datasets: list[dict[str, str]], said: str) -> None:
    with pytest.raises(InvalidRecipeError, match=said):
        InstructionDataRecipe.parse({"datasets": datasets})


def test_a_folder_without_data_is_refused_with_the_datasets_name(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"magic: InstructionDataset\.path = '.*nosuch': no such file"):
        recipe(tmp_path / "nosuch")
