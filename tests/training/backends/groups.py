"""The tiny pretraining run in one or several processes that meet through gloo, forked from one that has
imported PyTorch already: a start costs a second instead of ten.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from codellm_dag.recipes import Recipe, Runtime
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.stages.protocol import Inputs
from tests.modelkit.tiny import RecordingReport
from tests.training.conftest import TINY

ADAMW = TINY.with_changes({"optimizer.name": "adamw", "optimizer.learning_rate": 0.003})
"""Twelve steps of four rows with AdamW."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        *("codellm_dag.training.pretrained_checkpoint", "codellm_dag.training.fsdp2"),
        *("deepspeed", "tests.training.conftest"),  # what is not installed is passed by
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

    `stop_after`: they are asked to end after so many steps. `save_always`: a checkpoint after each step.
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
        own_disks: bool = False,
        micro_rows: int = 0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._results = [folder / f"rank{rank}-{uuid.uuid4().hex[:8]}.pickle" for rank in range(processes)]
        self.processes: list[BaseProcess] = []
        for rank, result in enumerate(self._results):
            resume = folder / (f"resume-{rank}" if own_disks else "resume")
            job = (recipe, inputs, folder / ("out" if rank == 0 else f"out-{rank}"), resume, result)
            options = (rank, processes, port, stop_after, save_always, micro_rows)
            self.processes.append(_CONTEXT.Process(target=_rank, args=(*job, *options)))
        for process in self.processes:
            process.start()

    def wait(self, seconds: float = 120) -> list[Rank]:
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
    micro_rows: int,
) -> None:
    if size > 1:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
        who = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        os.environ.update({name: str(value) for name, value in (where | who).items()})
    from codellm_dag.training import pretrained_checkpoint, saving, sft_checkpoint

    if save_always:
        saving.FIRST_SAVE_SECONDS, saving.MOST_SAVING = 0.0, 1e9
        saving.save_interval = lambda *_: 0.0
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


def until(condition: Callable[[], object], processes: Sequence[BaseProcess], seconds: float = 60) -> None:
    """Wait until `condition` holds while the processes run."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert any(process.is_alive() for process in processes), "they ended before"
        time.sleep(0.02)


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
