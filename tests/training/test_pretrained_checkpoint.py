"""The pretraining stage: repeatable to the byte, also when killed; what it refuses."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from codellm_dag.recipes import Runtime
from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training import pretrained_checkpoint
from codellm_dag.training.plan import DivergedError
from codellm_dag.training.rows import InvalidTrainingDataError
from tests.modelkit.tiny import RecordingReport, artifact
from tests.training.backends.groups import CONTEXT
from tests.training.conftest import TINY, files, save_always


def run(recipe: PretrainingRecipe, inputs: Inputs, folder: Path, micro_rows: int = 0) -> RecordingReport:
    """Run the stage with ``folder/out`` and ``folder/resume``."""
    for name in ("out", "resume"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    report = RecordingReport(folder / "resume", Runtime(threads=1, workers=2, micro_rows=micro_rows))
    pretrained_checkpoint.run(recipe, inputs, folder / "out", report)
    return report


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RecordingReport]:
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(TINY, inputs, folder)


def test_it_learns_and_reports(whole: tuple[Path, RecordingReport]) -> None:
    folder, report = whole
    assert abs(report.metrics["loss_first"] - math.log(400)) < 0.15
    assert report.metrics["loss_last"] < report.metrics["loss_first"] - 0.5
    assert report.metrics["steps"] == 12
    assert [step for step, _ in report.points] == list(range(1, 13))
    assert set(report.points[0][1]) == {"loss", "learning_rate", "grad_norm"}
    assert report.steps[-1] == (12 * 4 * 64, 12 * 4 * 64, "tokens")
    facts = json.loads((folder / "out" / "training.json").read_text())
    assert (facts["chat"], facts["stage"], facts["steps"]) == (False, "pretrained_checkpoint", 12)
    assert facts["tokens"] == report.metrics["tokens"] < 12 * 4 * 64


def test_the_folder_is_a_hugging_face_model_without_pickles(whole: tuple[Path, RecordingReport]) -> None:
    from codellm_dag.generation import load_model

    out = whole[0] / "out"
    assert {path.suffix for path in out.iterdir() if path.is_file()} <= {".json", ".safetensors", ".jinja"}
    model, tokenizer = load_model(out)
    assert model.config.vocab_size == len(tokenizer) == 400
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 0


def test_same_bytes_again_and_other_bytes_with_another_seed(
    whole: tuple[Path, RecordingReport], inputs: Inputs, tmp_path: Path
) -> None:
    again = run(TINY, inputs, tmp_path / "again")
    assert files(tmp_path / "again" / "out") == files(whole[0] / "out")
    assert again.points == whole[1].points
    run(TINY.with_changes({"seed": 1}), inputs, tmp_path / "other")
    weights = [files(folder / "out")["model.safetensors"] for folder in (whole[0], tmp_path / "other")]
    assert weights[0] != weights[1]


SAY = """
import math, sys, time
left = {times}
def say(*words):
    global left
    line = " ".join(map(str, words))
    sys.stdout.write(line + "\\n")  # at once, also where two threads tell
    sys.stdout.flush()
    left -= line == {until!r}
    if not left:
        time.sleep(3600)
"""
CHILD = """
from pathlib import Path
from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training import saving
from tests.modelkit.tiny import artifact
from tests.training import test_pretrained_checkpoint as here

saving.FIRST_SAVE_SECONDS = 0
saving.save_interval = lambda *_: 0
saving.THREAD_SECONDS = min(saving.THREAD_SECONDS, 0) or math.inf
point = here.RecordingReport.point
def tell(self, step, **values):
    point(self, step, **values)
    say("step", step)
here.RecordingReport.point = tell
recipe = PretrainingRecipe.model_validate_json(sys.argv[1])
slots = dict(word.split("=") for word in sys.argv[3:])
inputs = Inputs({{slot: artifact(Path(path)) for slot, path in slots.items()}})
here.run(recipe, inputs, Path(sys.argv[2]), {micro_rows})
"""


def kill_at(
    recipe: PretrainingRecipe,
    inputs: Inputs,
    folder: Path,
    line: str,
    *,
    times: int = 1,
    first: str = "",
    micro_rows: int = 0,
) -> None:
    """Run the stage in a process of its own that saves after every step, and kill it when it has said `line`
    so many `times`, for which it waits. `first` is Python to run before it, which may `say` lines too.
    """
    slots = [f"{slot}={inputs[slot].path}" for slot in inputs]
    script = SAY.format(times=times, until=line) + first + CHILD.format(micro_rows=micro_rows)
    told, tell = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(
        target=_speak, args=(script, [recipe.model_dump_json(), str(folder), *slots], tell)
    )
    process.start()
    tell.close()
    with open(told.fileno(), closefd=False) as lines:
        for said in lines:
            times -= said.strip() == line
            if not times:
                process.kill()
                break
    told.close()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def _speak(script: str, arguments: list[str], tell: Connection) -> None:
    """Run `script`; what it prints goes to `tell`."""
    os.dup2(tell.fileno(), 1)
    sys.stdout = os.fdopen(1, "w")
    sys.argv[1:] = arguments
    exec(script, {"__name__": "__main__"})


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_killed_run_resumes_to_the_same_bytes(
    whole: tuple[Path, RecordingReport], inputs: Inputs, tmp_path: Path, optimizer: str
) -> None:
    recipe = TINY.with_changes({"optimizer.name": optimizer})
    undisturbed, expected = whole
    if optimizer != "muon":
        undisturbed, expected = tmp_path / "whole", run(recipe, inputs, tmp_path / "whole")
    folder = tmp_path / "killed"
    for stop_at in (4, 9):
        kill_at(recipe, inputs, folder, f"step {stop_at}")
    report = run(recipe, inputs, folder)
    assert report.messages == ["resuming from checkpoint-8"]
    assert report.points == expected.points
    assert files(folder / "out") == files(undisturbed / "out")
    assert report.metrics == expected.metrics


def test_a_checkpoint_of_another_recipe_or_of_other_data_is_not_resumed(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_always(monkeypatch)
    run(TINY, inputs, tmp_path)
    assert any(path.name.startswith("checkpoint-") for path in (tmp_path / "resume").iterdir())
    again = run(TINY, inputs, tmp_path)
    assert again.messages[0] == "resuming from checkpoint-11"
    other = {**inputs, "shards/python": replace(inputs["shards/python"], content_digest="of other shards")}
    assert run(TINY, Inputs(other), tmp_path).messages[0] == "no checkpoint to resume from"
    assert run(TINY, inputs, tmp_path).messages[0] == "no checkpoint to resume from", "the others' are there"
    report = run(TINY.with_changes({"optimizer.learning_rate": 0.001}), inputs, tmp_path)
    assert report.messages[0] == "no checkpoint to resume from"


def test_divergence_is_an_error_that_names_its_step(inputs: Inputs, tmp_path: Path) -> None:
    # A decay of 10 at a learning rate of 1 multiplies every matrix by -9 a step.
    wild = TINY.with_changes(
        {
            "optimizer": {"learning_rate": 1.0, "weight_decay": 10.0, "schedule": "constant"},
            "tokens": 60 * 4 * 64,
        }
    )
    with pytest.raises(DivergedError, match=r"(loss|grad_norm) is (nan|inf) at step \d+ of 60") as error:
        run(wild, inputs, tmp_path)
    assert error.value.label == "diverged"


def test_what_does_not_fit_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(InvalidTrainingDataError, match="tokens = 255 is less than one step of 256 tokens"):
        run(TINY.with_changes({"tokens": 255}), inputs, tmp_path)
    with pytest.raises(InvalidTrainingDataError, match="maximum_positions = 32 is below the shards'"):
        run(TINY.with_changes({"model.maximum_positions": 32}), inputs, tmp_path)
    without = Inputs({"tokenizer": inputs["tokenizer"]})
    with pytest.raises(InvalidTrainingDataError, match="no row to train on"):
        run(TINY, without, tmp_path)


def test_a_vocabulary_that_is_not_the_shards_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    folder = tmp_path / "shard"
    folder.mkdir()
    for path in inputs["shards/python"].path.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | {"vocabulary_size": 399}))
    slots = {"tokenizer": inputs["tokenizer"], "shards/python": artifact(folder)}
    with pytest.raises(InvalidTrainingDataError, match="vocabulary of 399, the tokenizer has 400"):
        run(TINY, Inputs(slots), tmp_path)
