"""A tiny training run in one or several processes that meet through gloo, forked from one that has
imported PyTorch already: a start costs a second instead of ten.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import time
import uuid
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from codellm_dag.recipes import Recipe, Runtime
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.stages.protocol import Inputs
from tests.modelkit.tiny import RecordingReport
from tests.training.conftest import TINY

ADAMW = TINY.with_changes({"optimizer.name": "adamw", "optimizer.learning_rate": 0.003})
"""Twelve steps of four rows with AdamW."""

CONTEXT = multiprocessing.get_context("forkserver")
"""Starts processes that have imported PyTorch already, and leave nothing in this one."""
CONTEXT.set_forkserver_preload(
    [
        *("codellm_dag.training.pretrained_checkpoint", "codellm_dag.training.fsdp2"),
        *("deepspeed", "tests.training.conftest"),  # what is not installed is passed by
        "tests.support.frozen",
    ]
)


def on(recipe: Any, **backend: Any) -> Any:
    """`recipe` with another backend."""
    return type(recipe).parse({**recipe.model_dump(mode="json"), "backend": backend})


@dataclass
class Rank:
    """What a process told, and how it ended: ``ended`` is empty, or the type and text of its exception."""

    ended: str = ""
    points: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return [values["loss"] for _, values in self.points]


class Group:
    """Processes that train `recipe` with ``folder/out`` and ``folder/resume``, or ``folder/resume-<rank>``.

    They meet at a store of this process, as they meet at torchrun's, whose port the kernel picked.
    `stop_after`: they are asked to end after so many steps. `save_always`: a checkpoint after each step.
    `by_thread`: checkpoints after the first are written by a thread. `die`: when one of them kills itself,
    see `killed`.
    """

    def __init__(
        self,
        recipe: Recipe,
        inputs: Inputs,
        folder: Path,
        processes: int = 1,
        *,
        stop_after: int = 0,
        save_always: bool = False,
        by_thread: bool = False,
        own_disks: bool = False,
        micro_rows: int = 0,
        die: tuple[Any, ...] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self._results = [folder / f"rank{rank}-{uuid.uuid4().hex[:8]}.pickle" for rank in range(processes)]
        self.processes: list[BaseProcess] = []
        for rank, result in enumerate(self._results):
            resume = folder / (f"resume-{rank}" if own_disks else "resume")
            job = (recipe, inputs, folder / ("out" if rank == 0 else f"out-{rank}"), resume, result)
            options = (rank, processes, self.store.port, stop_after, save_always, by_thread, micro_rows, die)
            self.processes.append(CONTEXT.Process(target=_rank, args=(*job, *options)))
        for process in self.processes:
            process.start()

    def wait(self, seconds: float = 300) -> list[Rank]:
        """What each rank told; fails where one ended without a word."""
        deadline = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                self.kill()
                raise AssertionError(f"still running after {seconds} seconds")
        return [pickle.loads(result.read_bytes()) for result in self._results]

    def kill(self) -> None:
        """SIGKILL to all of them."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()


def train(*arguments: Any, **options: Any) -> Rank:
    """Run a `Group` to its end and return what rank 0 told."""
    return Group(*arguments, **options).wait()[0]


def killed(
    recipe: Recipe, inputs: Inputs, folder: Path, processes: int, moment: tuple[Any, ...], **options: Any
) -> None:
    """Train with a checkpoint after each step until SIGKILL at a moment, of one process first, then of all.

    `moment`: ``("save", n)``, when the checkpoint of step n is written and has no name yet; ``("pass", n,
    k)``, in the last rank's k-th forward pass of step n, k from 1, with the checkpoint before it in place.
    """
    group = Group(recipe, inputs, folder, processes, save_always=True, die=moment, **options)
    dying = group.processes[0 if moment[0] == "save" else -1]
    dying.join(300)
    group.kill()
    assert dying.exitcode == -signal.SIGKILL


def _die(kind: str, step: int, number: int = 1, *, rank: int, last: int, resume: Path) -> None:
    from codellm_dag.training.checkpoints import ResumeFolder
    from codellm_dag.training.trainer import PackedTrainer

    publish, compute_loss, passes = ResumeFolder.publish, PackedTrainer.compute_loss, []

    def die_in_publish(self: ResumeFolder, at: int, *more: Any) -> Path:
        if at == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return publish(self, at, *more)

    def die_in_pass(self: PackedTrainer, *arguments: Any, **more: Any) -> Any:
        passes.append(self.state.global_step + 1)
        if passes.count(step) == number:
            while not (resume / f"checkpoint-{step - 1}").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        return compute_loss(self, *arguments, **more)

    if kind == "save" and rank == 0:
        ResumeFolder.publish = die_in_publish
    if kind == "pass" and rank == last:
        PackedTrainer.compute_loss = die_in_pass


def be_one_of(size: int, rank: int, port: int) -> None:
    """Make this process a rank of a group that meets at the store on `port`, as torchrun would."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    where |= {"TORCHELASTIC_USE_AGENT_STORE": True, "TORCHELASTIC_RESTART_COUNT": 0}
    who = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ.update({name: str(value) for name, value in (where | who).items()})


def _rank(
    recipe: Recipe,
    inputs: Inputs,
    out: Path,
    resume: Path,
    result: Path,
    rank: int,
    size: int,
    port: int,
    stop_after: int,
    save_always: bool,
    by_thread: bool,
    micro_rows: int,
    die: tuple[Any, ...],
) -> None:
    if size > 1:
        be_one_of(size, rank, port)
    from codellm_dag.training import pretrained_checkpoint, saving, sft_checkpoint

    if save_always:
        saving.FIRST_SAVE_SECONDS, saving.MOST_SAVING = 0.0, 1e9
        saving.save_interval, saving.THREAD_SECONDS = lambda *_: 0.0, math.inf
    if by_thread:
        saving.THREAD_SECONDS = -1.0
    if die:
        _die(*die, rank=rank, last=size - 1, resume=resume)
    for folder in (out, resume):
        folder.mkdir(parents=True, exist_ok=True)
    report = RecordingReport(resume, Runtime(threads=1, workers=1, micro_rows=micro_rows))
    report.stop_requested = lambda: bool(stop_after) and len(report.points) >= stop_after - 1
    ended = ""
    try:
        stage = sft_checkpoint if isinstance(recipe, SftRecipe) else pretrained_checkpoint
        stage.run(recipe, inputs, out, report)
    except Exception as error:
        ended = f"{type(error).__name__}: {error}"
    told = Rank(ended, report.points, report.metrics, report.messages)
    result.write_bytes(pickle.dumps(told))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of the model that a group left: one file."""
    return load_file(folder / "out/model.safetensors")


def assert_equal_to_tolerance(folder: Path, told: Rank, other_folder: Path, other: Rank) -> None:
    """Losses to 2e-5 of their size, weights to a thirtieth of one step of AdamW, which divides what sums in
    another order leave by the root of tiny squares.
    """
    assert len(told.losses) == 12, told.ended
    assert told.losses == pytest.approx(other.losses, rel=2e-5)
    expected, found = weights(other_folder), weights(folder)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-4)
