"""Files between processes whose disks are not the same: all parts of a checkpoint to rank 0, the whole back.

Two ranks share a disk where one sees what the other wrote.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from codellm_dag.stages.protocol import UNFINISHED
from codellm_dag.training.processes import Processes

_CHUNK = 64 << 20  # bytes of one message between two disks


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
            _send(folder, 0)
    processes.any(False)
    if apart:
        shutil.rmtree(folder, ignore_errors=True)
    elif processes.first:
        mark.unlink()


def bring_folder_to_all(folder: Path, processes: Processes) -> None:
    """Copy rank 0's `folder`, a checkpoint after a rollback, to the disks that lack it, whole or not at all.

    All ranks call it. Ranks that share a disk get it once. Those of earlier rollbacks are removed there.
    """
    for rank in range(1, processes.size):
        lacks = processes.all_of(not folder.exists())[rank]
        if lacks and processes.first:
            _send(folder, rank)
        elif lacks and rank == processes.rank:
            partial = folder.with_name(f"new{UNFINISHED}")
            for old in [partial, *folder.parent.glob("checkpoint-*.*")]:
                shutil.rmtree(old, ignore_errors=True)
            _receive(partial, 0)
            partial.rename(folder)
    processes.any(False)


def _send(folder: Path, to: int) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    names = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]
    dist.send_object_list([names], dst=to, device=torch.device("cpu"))
    wanted: list[Any] = [None]
    dist.recv_object_list(wanted, src=to, device=torch.device("cpu"))
    for name in wanted[0]:
        with (folder / name).open("rb") as stream:
            while data := stream.read(_CHUNK):
                dist.send(torch.frombuffer(bytearray(data), dtype=torch.uint8), dst=to)


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
