"""The samples stage with a real model and the real sandbox."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codellm_dag.evaluation.errors import BadInput, ReferenceFailed
from codellm_dag.evaluation.samples import run
from codellm_dag.evaluation.sampling import chosen_problems
from codellm_dag.problems.schema import write_problems
from codellm_dag.recipes.evaluation import SamplesRecipe, SamplingRecipe
from codellm_dag.stages.protocol import Inputs
from tests.evaluation.conftest import WORDS, code_problem
from tests.modelkit.tiny import RecordingReport, artifact, save_checkpoint
from tests.modelkit.training import teach

RECIPE = SamplesRecipe.parse(
    {"microbench": {"samples_per_problem": 12, "temperature": 1.0, "max_new_tokens": 6, "batch_size": 8}}
)


def measure(recipe: SamplesRecipe, inputs: Inputs, folder: Path) -> tuple[RecordingReport, list[dict]]:
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    report = RecordingReport(folder / "resume")
    run(recipe, inputs, out, report)
    return report, pq.read_table(out / "samples.parquet").to_pylist()


def test_records_of_all_samples_in_order(code_inputs: Inputs, tmp_path: Path):
    report, rows = measure(RECIPE, code_inputs, tmp_path)
    assert [(row["problem_id"], row["sample_index"]) for row in rows] == [
        (name, index) for name in "fgh" for index in range(12)
    ]
    for row in rows:
        assert (row["verdict"] == "pass") == row["completion"].startswith("    return x + 1\n")
        assert row["completion_digest"] == hashlib.sha256(row["completion"].encode()).hexdigest()
        assert row["prompt_digest"] == hashlib.sha256(f"def {row['problem_id']}(x):\n".encode()).hexdigest()
        assert (row["judged"], row["tests"]) == ("outside", 2)
        assert 1 <= row["tokens"] <= 6
        assert len(row["tokens_digest"]) == 64
    passed = {name: sum(r["verdict"] == "pass" for r in rows if r["problem_id"] == name) for name in "fgh"}
    assert passed["f"] >= 10
    assert 2 <= passed["h"] <= 10
    assert {r["template"] for r in rows if r["problem_id"] == "h"} == {"add > half"}
    assert report.steps[-1] == (36, 36, "samples")
    summary = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert summary["benchmark"] == "microbench"
    assert (summary["problems"], summary["prompt_style"]) == (3, "completion")
    assert report.metrics["records"] == 36
    assert any("3 reference solutions pass" in message for message in report.messages)


def test_two_runs_give_the_same_bytes_and_another_seed_does_not(code_inputs: Inputs, tmp_path: Path):
    measure(RECIPE, code_inputs, tmp_path / "a")
    measure(RECIPE, code_inputs, tmp_path / "b")
    measure(RECIPE.with_changes({"microbench.seed": 1}), code_inputs, tmp_path / "c")
    parquet = [(tmp_path / name / "out" / "samples.parquet").read_bytes() for name in "abc"]
    assert parquet[0] == parquet[1] != parquet[2]


def test_a_failing_reference_stops_before_sampling(code_inputs: Inputs, tmp_path: Path):
    folder = tmp_path / "problems"
    folder.mkdir()
    write_problems(folder, [code_problem("f"), code_problem("bad", reference="    return x\n")])
    inputs = Inputs({**code_inputs, "problems": artifact(folder)})
    with pytest.raises(ReferenceFailed, match=r"bad \(0 of 2"):
        measure(RECIPE, inputs, tmp_path)
    known = RECIPE.with_changes({"microbench.known_reference_failures": ["bad"]})
    _, rows = measure(known, inputs, tmp_path)
    assert {row["problem_id"] for row in rows} == {"f"}
    summary = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert summary["known_reference_failures"] == ["bad"]


def test_a_chat_model_is_asked_by_its_template(code_inputs: Inputs, tmp_path: Path):
    answer = "```python\ndef f(x):\n    return x + 1\n```"
    folder = save_checkpoint(tmp_path / "chat", chat=True, words=(answer, *WORDS))
    asked = "<|im_start|>user\ndef f(x):<|im_end|>\n<|im_start|>assistant\n"
    teach(folder, [(asked, answer)], steps=40, chat=True)
    problems = tmp_path / "problems"
    problems.mkdir()
    write_problems(problems, [code_problem("f")])
    inputs = Inputs({**code_inputs, "checkpoint": artifact(folder), "problems": artifact(problems)})
    greedy = SamplesRecipe.parse(
        {"microbench": {"samples_per_problem": 1, "temperature": 0, "max_new_tokens": 6}}
    )
    _, rows = measure(greedy, inputs, tmp_path / "auto")
    assert rows[0]["prompt_digest"] == hashlib.sha256(asked.encode()).hexdigest()
    assert rows[0]["completion"] == answer
    assert rows[0]["verdict"] == "pass"
    _, rows = measure(
        greedy.with_changes({"microbench.prompt_style": "completion"}), inputs, tmp_path / "base"
    )
    assert rows[0]["prompt_digest"] == hashlib.sha256(b"def f(x):\n").hexdigest()


def test_a_prompt_that_does_not_fit_is_cut_at_its_start_and_counted(code_inputs: Inputs, tmp_path: Path):
    problems = tmp_path / "problems"
    problems.mkdir()
    prompt = "# " + "y" * 300 + "\ndef f(x):\n"
    write_problems(problems, [code_problem("f", prompt=prompt), code_problem("g")])
    inputs = Inputs({**code_inputs, "problems": artifact(problems)})
    report, _ = measure(RECIPE, inputs, tmp_path)
    assert report.metrics["prompts_cut"] == 1


def test_missing_or_foreign_problems_are_said(code_inputs: Inputs, tmp_path: Path):
    without = Inputs({slot: code_inputs[slot] for slot in code_inputs if slot != "problems"})
    with pytest.raises(BadInput, match="microbench needs the slot 'problems'"):
        measure(RECIPE, without, tmp_path)
    problems = tmp_path / "problems"
    problems.mkdir()
    write_problems(problems, [code_problem("t", split="train")])
    with pytest.raises(BadInput, match="holds no problem of microbench"):
        measure(RECIPE, Inputs({**code_inputs, "problems": artifact(problems)}), tmp_path)


def test_a_part_of_the_problems_is_chosen_by_hash():
    problems = [code_problem(f"p{number:02}") for number in range(20)]
    chosen = chosen_problems(problems, SamplingRecipe(max_problems=5))
    by_hash = sorted(problems, key=lambda p: hashlib.sha256(p.problem_id.encode()).hexdigest())
    assert {p.problem_id for p in chosen} == {p.problem_id for p in by_hash[:5]}
    assert chosen == sorted(chosen, key=lambda p: p.problem_id)
    assert chosen_problems(problems, SamplingRecipe(max_problems=20)) == problems
    assert chosen_problems(problems, SamplingRecipe()) == problems
