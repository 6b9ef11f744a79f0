"""Problems as a file: what is written is read, in order of id; bad files are named by line and field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codellm_dag.problems.schema import (
    Call,
    InvalidProblemError,
    Problem,
    Test,
    read_problems,
    write_problems,
)

ONE = Problem(
    problem_id="b",
    benchmark="microbench",
    prompt='def f(x: int) -> int:\n    """Add 1."""\n',
    entry_point="f",
    reference="    return x + 1\n",
    tests=(Test(call=Call(args=("1",)), expected="2"),),
)


def test_what_is_written_is_read_in_order_of_id(tmp_path: Path) -> None:
    other = ONE.model_copy(update={"problem_id": "a", "setup": "import math"})
    assert write_problems(tmp_path, [ONE, other]).name == "problems.jsonl"
    assert read_problems(tmp_path) == [other, ONE]


def test_program_is_setup_prompt_completion() -> None:
    assert ONE.program("    return 0") == 'def f(x: int) -> int:\n    """Add 1."""\n    return 0\n'
    assert ONE.model_copy(update={"setup": "import math"}).program("").startswith("import math\ndef f")


def test_ids_must_differ(tmp_path: Path) -> None:
    with pytest.raises(InvalidProblemError, match="two problems have the id 'b'"):
        write_problems(tmp_path, [ONE, ONE])
    (tmp_path / "problems.jsonl").write_text(f"{ONE.model_dump_json()}\n" * 2)
    with pytest.raises(InvalidProblemError, match=r"problems\.jsonl:2: the id 'b' appears twice"):
        read_problems(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entry_point": ""}, "entry_point: String should have at least 1 character"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"split": "test"}, "split: Input should be 'train' or 'heldout'"),
        (
            {"tests": [{"call": {}, "expected": "1", "comparison": "same"}]},
            r"tests\.0\.comparison: Input should",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    line = json.dumps(ONE.model_dump(mode="json") | change)
    (tmp_path / "problems.jsonl").write_text(f"{ONE.model_dump_json()}\n{line}\n")
    with pytest.raises(InvalidProblemError, match=rf"problems\.jsonl:2: {message}"):
        read_problems(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidProblemError, match="holds that file"):
        read_problems(tmp_path)
