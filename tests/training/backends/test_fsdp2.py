"""FSDP2 as a backend: losses and weights of the trainer, exact resume, other numbers of processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from codellm_dag.recipes import InvalidRecipeError, Runtime
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.training_options import Compute
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training import fsdp2
from codellm_dag.training.backends.protocol import Rendered, backend
from tests.modelkit.tiny import tiny_llama
from tests.training.backends.groups import ADAMW, Group, Rank, assert_equal_to_tolerance, killed, on, train
from tests.training.conftest import files

FSDP2 = on(ADAMW, name="fsdp2")


@pytest.fixture(scope="module")
def plain(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rank]:
    """The trainer's run in one process."""
    folder = tmp_path_factory.mktemp("plain")
    return folder, train(ADAMW, inputs, folder)


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rank]:
    """An undisturbed run of two processes."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(FSDP2, inputs, folder, 2)


@pytest.fixture(scope="module")
def stopped(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left that were asked to end after six steps."""
    folder = tmp_path_factory.mktemp("stopped")
    told = train(FSDP2, inputs, folder, 2, stop_after=6)
    assert told.ended == "Stopped: asked to end; saved after step 6 of 12"
    return folder


def test_it_is_the_trainer_s_training(plain: tuple[Path, Rank], whole: tuple[Path, Rank]) -> None:
    assert_equal_to_tolerance(*whole, *plain)
    metrics = whole[1].metrics
    assert (metrics["backend"], metrics["backend_version"]) == ("fsdp2", torch.__version__)
    assert metrics["parameters"] == plain[1].metrics["parameters"]
    rendered = json.loads((whole[0] / "out/_volatile/fsdp2/fsdp2.json").read_text())
    assert rendered["device_mesh"] == {"shard": 2}


def test_it_resumes_to_the_bit(
    stopped: Path, whole: tuple[Path, Rank], inputs: Inputs, tmp_path: Path
) -> None:
    shutil.copytree(stopped / "resume", tmp_path / "resume")
    (checkpoint,) = (tmp_path / "resume").iterdir()
    parts = {path.name for path in (checkpoint / "shards").iterdir()}
    assert {"__0_0.distcp", "__1_0.distcp", ".metadata"} <= parts
    told = train(FSDP2, inputs, tmp_path, 2)
    assert told.messages == ["resuming from checkpoint-6"]
    assert told.points == whole[1].points
    assert files(tmp_path / "out") == files(whole[0] / "out")


@pytest.mark.parametrize("processes", [1, 4])
def test_another_number_of_processes_takes_its_own_part(
    stopped: Path, plain: tuple[Path, Rank], inputs: Inputs, tmp_path: Path, processes: int
) -> None:
    shutil.copytree(stopped / "resume", tmp_path / "resume")
    told = train(FSDP2, inputs, tmp_path, processes)
    assert told.messages == ["resuming from checkpoint-6"]
    assert told.metrics["processes"] == f"2x2, then {processes}x{4 // processes}"
    assert_equal_to_tolerance(tmp_path, told, *plain)


def test_hybrid_sharding(plain: tuple[Path, Rank], inputs: Inputs, tmp_path: Path) -> None:
    recipe = on(ADAMW, name="fsdp2", hybrid_sharding=2)
    first = train(recipe, inputs, tmp_path, 4, stop_after=6)
    assert first.ended.startswith("Stopped")
    told = train(recipe, inputs, tmp_path, 4)
    assert told.messages == ["resuming from checkpoint-6"]
    rendered = json.loads((tmp_path / "out/_volatile/fsdp2/fsdp2.json").read_text())
    assert rendered["device_mesh"] == {"replicate": 2, "shard": 2}
    assert_equal_to_tolerance(tmp_path, told, *plain)


def test_killed_while_it_saves_it_goes_on_from_a_whole_checkpoint(
    whole: tuple[Path, Rank], inputs: Inputs, tmp_path: Path
) -> None:
    killed(FSDP2, inputs, tmp_path, 2, ("save", 6))
    assert (tmp_path / "resume/new.partial/checkpoint-6/shards/.metadata").exists()
    told = train(FSDP2, inputs, tmp_path, 2)
    assert told.messages == ["resuming from checkpoint-5"]
    assert told.points == whole[1].points
    assert files(tmp_path / "out") == files(whole[0] / "out")


def test_processes_with_disks_of_their_own_leave_one_whole_checkpoint(
    whole: tuple[Path, Rank], inputs: Inputs, tmp_path: Path
) -> None:
    assert train(FSDP2, inputs, tmp_path, 2, stop_after=6, own_disks=True).ended.startswith("Stopped")
    (checkpoint,) = (tmp_path / "resume-0").iterdir()
    assert {"__0_0.distcp", "__1_0.distcp"} <= {path.name for path in (checkpoint / "shards").iterdir()}
    assert list((tmp_path / "resume-1").iterdir()) == []
    lost = Group(FSDP2, inputs, tmp_path, 2, own_disks=True).wait()
    assert lost[1].ended.startswith("ResumeMismatchError: rank 1 does not hold checkpoint-6")
    shutil.copytree(tmp_path / "resume-0", tmp_path / "resume-1", dirs_exist_ok=True)  # as pods do
    assert train(FSDP2, inputs, tmp_path, 2, own_disks=True).points == whole[1].points


def test_another_recipe_does_not_resume_it(stopped: Path, inputs: Inputs, tmp_path: Path) -> None:
    shutil.copytree(stopped / "resume", tmp_path / "resume")
    other = FSDP2.with_changes({"optimizer.weight_decay": 0.2})
    assert train(other, inputs, tmp_path, 2).messages == ["no checkpoint to resume from"]


def test_a_parameter_that_stays_whole_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsdp2, "fully_shard", lambda *_, **__: None)
    with pytest.raises(
        fsdp2.NotShardedError, match=r"model\.embed_tokens\.weight is a Parameter, not a DTensor"
    ):
        fsdp2.shard(tiny_llama(), None, Compute())  # type: ignore[arg-type]


def test_groups_that_do_not_fit_are_refused_before_launch() -> None:
    pods = Runtime(kubernetes=PodShape(image="codellm-dag:test", nodes=4))
    with pytest.raises(InvalidRecipeError) as error:
        on(ADAMW, name="fsdp2", hybrid_sharding=3).check_runtime(pods)
    assert str(error.value) == (
        "PretrainingRecipe.backend.hybrid_sharding = 3 does not divide 4 processes; allowed: 0, 1, 2, 4"
    )
    rendered = Rendered(
        {"fsdp2.json": json.dumps({"processes": 4, "device_mesh": {"replicate": 1, "shard": 3}})}
    )
    with pytest.raises(InvalidRecipeError, match="hybrid_sharding = 3 does not divide 4 processes"):
        backend("fsdp2").validate(rendered)
