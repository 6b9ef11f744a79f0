"""The fine-tuning stage: a chat model that answers, repeatable to the byte; what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from codellm_dag.generation import chat_prompt, load_model
from codellm_dag.generation.engine import Generator
from codellm_dag.generation.prompting import is_chat_checkpoint
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training import sft_checkpoint
from codellm_dag.training.rows import InvalidTrainingDataError
from tests.modelkit.tiny import RecordingReport, artifact, save_checkpoint
from tests.training.conftest import ANSWERS, files

RECIPE = SftRecipe.parse(
    {
        "optimizer": {"name": "muon", "learning_rate": 0.02},
        "batch": {"global_rows": 2},
        "epochs": 60,
        "sequence_length": 64,
    }
)


def run(recipe: SftRecipe, slots: dict[str, object], folder: Path) -> RecordingReport:
    (folder / "out").mkdir(parents=True)
    report = RecordingReport(folder / "resume")
    sft_checkpoint.run(recipe, Inputs(slots), folder / "out", report)  # type: ignore[arg-type]
    return report


def test_it_learns_to_answer_and_to_stop_and_repeats_to_the_byte(
    slots: dict[str, object], tmp_path: Path
) -> None:
    report = run(RECIPE, slots, tmp_path / "one")
    out = tmp_path / "one" / "out"
    model, tokenizer = load_model(out)
    asked = [chat_prompt(tokenizer, question) for question in ANSWERS]
    answers = Generator(model, tokenizer).sample(asked, max_new_tokens=20, temperature=0)
    assert [row[0].text for row in answers] == list(ANSWERS.values())
    assert all(row[0].finished for row in answers)
    assert is_chat_checkpoint(out)
    assert model.generation_config.eos_token_id == [2, 0]
    assert report.metrics["examples"] == 8
    assert report.metrics["loss_last"] < 0.1
    assert json.loads((out / "training.json").read_text())["tokens"] == report.metrics["tokens"]
    again = run(RECIPE, slots, tmp_path / "two")
    assert files(tmp_path / "two" / "out") == files(out)
    assert again.points == report.points


def test_what_does_not_fit_is_refused(inputs: Inputs, slots: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(
        InvalidTrainingDataError, match="sequence_length = 2048 is above the checkpoint's 1024"
    ):
        run(RECIPE.with_changes({"sequence_length": 2048}), slots, tmp_path / "long")
    small = save_checkpoint(tmp_path / "small", chat=False)
    other = slots | {"checkpoint": artifact(small)} | dict(inputs)
    with pytest.raises(InvalidTrainingDataError, match=r"of 400, the checkpoint's tokenizer one of 259"):
        run(RECIPE.with_changes({"replay": 0.5, "sequence_length": 64}), other, tmp_path / "replay")
    shutil.copy(slots["checkpoint"].path / "tokenizer.json", small)
    with pytest.raises(InvalidTrainingDataError, match="has 259 embeddings, the tokenizer 400 entries"):
        run(RECIPE, other, tmp_path / "other")


def test_pretraining_rows_are_replayed(inputs: Inputs, slots: dict[str, object], tmp_path: Path) -> None:
    recipe = RECIPE.with_changes({"replay": 0.5, "epochs": 4, "sequence_length": 64})
    with pytest.raises(InvalidTrainingDataError, match=r"replay = 0.5 needs the token shards of pretraining"):
        run(recipe, slots, tmp_path / "without")
    shards = {slot: inputs[slot] for slot in inputs if slot.startswith("shards/")}
    plain = run(recipe.with_changes({"replay": 0.0}), slots | shards, tmp_path / "plain").metrics
    mixed = run(recipe, slots | shards, tmp_path / "mixed").metrics
    assert mixed["rows_replayed"] == mixed["steps"] * 2 / 2, "half of the rows of each step of two"
    assert mixed["steps"] == 2 * plain["steps"]
    assert (mixed["epochs"], plain["rows_replayed"]) == (plain["epochs"], 0)
