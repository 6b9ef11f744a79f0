"""What trainers that share a model out over processes have in common: how it is called, and how it is saved.

Each rank writes its own part of a checkpoint. Where ranks have disks of their own, the parts travel to rank
0's, which alone publishes a checkpoint and whose files alone are copied to the store; a node that takes the
run up again has fetched the whole checkpoint from there.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from transformers import Trainer

from codellm_dag.training.model import target_losses
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import IGNORED
from codellm_dag.training.trainer import PackedTrainer

_CHUNK = 64 << 20  # bytes of one message between two disks


class ShardedTrainer(PackedTrainer):
    """`PackedTrainer` on a model of which each process holds a part. Subclasses shard and save it."""

    whole_model = False

    model: Any

    def __init__(self, model: Any, *arguments: Any, **more: Any) -> None:
        super().__init__(model, *arguments, **more)
        self.model_class = type(model)
        # Shards are gathered around the forward pass of the module that was sharded, so the losses are it.
        model.forward = MethodType(_forward, model)

    def row_losses(self, model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The losses of the targets of these rows."""
        return model(*batch)

    def empty_model(self) -> Any:
        """A model of this kind to be filled with all weights, in rank 0."""
        if not self.processes.first:
            return None
        whole = self.model_class(self.model.config)
        whole.generation_config = self.model.generation_config
        return whole

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Only make the folder: a checkpoint's weights are in the parts that the ranks write."""
        del _internal_call
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)

    def _save_here(self, model: Any, trial: Any) -> None:
        if self.processes.first:
            self.folder.clear_partial()
        self.processes.any(False)
        Trainer._save_checkpoint(self, model, trial)
        bring_files_to_first(self.folder.partial, self.processes)
        if self.processes.first:
            self.folder.publish(self.state.global_step, self.layouts, self.rollbacks)
        self.processes.any(False)


def _forward(
    model: Any, tokens: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    return target_losses(model, tokens, positions, targets, IGNORED)


def bring_files_to_first(folder: Path, processes: Processes) -> None:
    """Copy what ranks with disks of their own wrote below `folder` to rank 0's disk, and remove it there.

    All ranks call it, after all of them wrote. A file that rank 0 has already is not sent.
    """
    if processes.size == 1:
        return
    mark = folder / f".{processes.word_of_first(uuid.uuid4().hex)}"
    if processes.first:
        mark.touch()
    processes.any(False)
    apart = not mark.exists()
    for rank, away in enumerate(processes.all_of(apart)):
        if away and processes.first:
            _receive(folder, rank)
        elif away and rank == processes.rank:
            _send(folder)
    processes.any(False)
    if apart:
        shutil.rmtree(folder, ignore_errors=True)
    elif processes.first:
        mark.unlink()


def _send(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    names = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]
    dist.send_object_list([names], dst=0, device=torch.device("cpu"))
    wanted: list[Any] = [None]
    dist.recv_object_list(wanted, src=0, device=torch.device("cpu"))
    for name in wanted[0]:
        with (folder / name).open("rb") as stream:
            while data := stream.read(_CHUNK):
                dist.send(torch.frombuffer(bytearray(data), dtype=torch.uint8), dst=0)


def _receive(folder: Path, rank: int) -> None:
    told: list[Any] = [None]
    dist.recv_object_list(told, src=rank, device=torch.device("cpu"))
    wanted = [(name, size) for name, size in told[0] if not (folder / name).exists()]
    dist.send_object_list([[name for name, _ in wanted]], dst=rank, device=torch.device("cpu"))
    for name, size in wanted:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            for start in range(0, size, _CHUNK):
                chunk = torch.empty(min(_CHUNK, size - start), dtype=torch.uint8)
                dist.recv(chunk, src=rank)
                stream.write(chunk.numpy().tobytes())
