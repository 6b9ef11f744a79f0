"""DeepSpeed as a backend: losses and weights of the trainer, exact resume, and what is refused."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training.backends.protocol import Rendered, backend
from tests.training.backends.groups import ADAMW, CONTEXT, Rank, assert_equal_to_tolerance, killed, on, train
from tests.training.conftest import files

KINDS = [*((stage, False) for stage in range(4)), *((stage, True) for stage in range(1, 4))]


def zero(stage: int, offload: bool = False) -> PretrainingRecipe:
    return on(ADAMW, name="deepspeed", zero_stage=stage, offload=offload)


@pytest.fixture(scope="module")
def plain(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rank]:
    """The trainer's run in one process."""
    folder = tmp_path_factory.mktemp("plain")
    return folder, train(ADAMW, inputs, folder)


@pytest.mark.frameworks
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("stage", "offload"), KINDS)
def test_losses_and_weights_are_the_trainer_s(
    plain: tuple[Path, Rank], inputs: Inputs, tmp_path: Path, processes: int, stage: int, offload: bool
) -> None:
    told = train(zero(stage, offload), inputs, tmp_path, processes)
    assert_equal_to_tolerance(tmp_path, told, *plain)
    assert (told.metrics["backend"], told.metrics["backend_version"]) == ("deepspeed", "0.19.8")
    rendered = json.loads((tmp_path / "out/_volatile/deepspeed/deepspeed.json").read_text())
    assert rendered["zero_optimization"]["stage"] == stage
    assert rendered["train_micro_batch_size_per_gpu"] == 4 // processes


@pytest.mark.frameworks
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(("stage", "offload"), KINDS)
def test_it_resumes_to_the_bit(
    inputs: Inputs, tmp_path: Path, processes: int, stage: int, offload: bool
) -> None:
    recipe = zero(stage, offload)
    whole = train(recipe, inputs, tmp_path / "whole", processes)
    first = train(recipe, inputs, tmp_path, processes, stop_after=6)
    assert first.ended == "Stopped: asked to end; saved after step 6 of 12"
    told = train(recipe, inputs, tmp_path, processes)
    assert told.messages == ["resuming from checkpoint-6"]
    assert told.points == whole.points
    assert files(tmp_path / "out") == files(tmp_path / "whole/out")


@pytest.mark.frameworks
def test_killed_while_it_saves_it_goes_on_from_a_whole_checkpoint(inputs: Inputs, tmp_path: Path) -> None:
    whole = train(zero(3), inputs, tmp_path / "whole", 2)
    killed(zero(3), inputs, tmp_path, 2, ("save", 6))
    told = train(zero(3), inputs, tmp_path, 2)
    assert told.messages == ["resuming from checkpoint-5"]
    assert told.points == whole.points


@pytest.mark.frameworks
def test_disks_of_their_own_and_another_number_of_processes(inputs: Inputs, tmp_path: Path) -> None:
    whole = train(zero(2), inputs, tmp_path / "whole", 2)
    assert train(zero(2), inputs, tmp_path, 2, stop_after=6, own_disks=True).ended.startswith("Stopped")
    assert list((tmp_path / "resume-1").iterdir()) == []
    shutil.copytree(tmp_path / "resume-0", tmp_path / "resume")
    assert train(zero(2), inputs, tmp_path, 1).ended == (
        "ResumeMismatchError: DeepSpeed's checkpoint was written by 2 processes and belongs to as many, "
        "here are 1; run it on 2, or choose backend.name = fsdp2, whose checkpoints fit any number"
    )
    shutil.copytree(tmp_path / "resume-0", tmp_path / "resume-1", dirs_exist_ok=True)  # as pods do
    assert train(zero(2), inputs, tmp_path, 2, own_disks=True).points == whole.points


@pytest.mark.frameworks
def test_its_own_class_reads_the_configuration() -> None:
    values = {"train_batch_size": 4, "train_micro_batch_size_per_gpu": 3, "gradient_accumulation_steps": 1}
    rendered = Rendered({"deepspeed.json": json.dumps(values)})
    with (
        ProcessPoolExecutor(1, CONTEXT) as elsewhere,  # it joins a group of its own, for good
        pytest.raises(InvalidRecipeError, match="DeepSpeed refuses its configuration: Check batch related"),
    ):
        elsewhere.submit(backend("deepspeed").validate, rendered).result()


def test_what_is_not_deepspeed_s_is_refused_before_launch() -> None:
    with pytest.raises(InvalidRecipeError, match=r"backend\.offload = True: needs backend\.zero_stage"):
        on(ADAMW, name="deepspeed", offload=True)
    with pytest.raises(InvalidRecipeError, match=r"backend\.zero_stage = 2: trainer cannot express it"):
        on(ADAMW, name="trainer", zero_stage=2)
