"""The fine-tuning stage with an outside framework: a chat model that answers, and who made it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from codellm_dag.generation import chat_prompt, load_model
from codellm_dag.generation.engine import Generator
from codellm_dag.generation.prompting import is_chat_checkpoint
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training import sft_checkpoint
from codellm_dag.training.environments.framework import environment
from tests.modelkit.tiny import RecordingReport, artifact, save_checkpoint
from tests.training.backends.groups import Group

ANSWERS = {"one": "It is 1.", "two": "It is 2."}


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ["llamafactory", "swift"])
def test_a_chat_model_that_answers_and_two_processes_that_learn_it(
    name: str, built: Callable[[str], None], tmp_path: Path
) -> None:
    built(name)
    save_checkpoint(tmp_path / "checkpoint", chat=False)
    (tmp_path / "data").mkdir()
    talks = [
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        for question, answer in ANSWERS.items()
    ]
    pq.write_table(pa.table({"messages": talks * 4}), tmp_path / "data" / "train.parquet")
    recipe = SftRecipe.parse(
        {
            "backend": {"name": name},
            "optimizer": {"learning_rate": 0.01},
            "batch": {"global_rows": 2},
            "epochs": 50,
            "sequence_length": 128,
        }
    )
    report, out = RecordingReport(tmp_path / "resume"), tmp_path / "out"
    out.mkdir()
    slots = {"checkpoint": artifact(tmp_path / "checkpoint"), "data": artifact(tmp_path / "data")}
    sft_checkpoint.run(recipe, Inputs(slots), out, report)
    metrics = report.metrics
    assert (metrics["backend"], metrics["backend_version"]) == (name, environment(name).version)
    assert len(report.points) == metrics["steps"] == 50  # eight conversations in two rows
    assert metrics["loss_last"] < 0.1 < metrics["loss_first"]
    group = Group(recipe, Inputs(slots), tmp_path / "group", processes=2).wait(500)[0]
    if name == "swift":  # LLaMA-Factory's differ with the rows of a pass, here one instead of two
        told = [values["loss"] for _, values in report.points]
        assert group.losses == pytest.approx(told, rel=1e-3), group.ended
    assert len(group.losses) == 50, group.ended
    assert group.losses[-1] < 0.1 < group.losses[0]
    model, tokenizer = load_model(out)
    asked = [chat_prompt(tokenizer, question) for question in ANSWERS]
    answers = Generator(model, tokenizer).sample(asked, max_new_tokens=20, temperature=0)
    assert [row[0].text for row in answers] == list(ANSWERS.values())
    assert is_chat_checkpoint(out)
    (kept,) = (out / "_volatile" / name).glob("train.*")
    assert yaml.safe_load(kept.read_text())["max_steps"] == metrics["steps"]
