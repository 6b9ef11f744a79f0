"""The processes that train one model together: those that torchrun started, or one alone.

Gradients travel through gloo between CPUs and nccl between GPUs; the few bytes here always through gloo, so
that no GPU waits for them. What is asked of one process must be asked of all, in the same order.
"""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist

_TIMEOUT = timedelta(minutes=30)


def _transport() -> str:
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


class Processes:
    """This process' rank among `size`; one of one outside of a group."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @classmethod
    def join(cls) -> Processes:
        """Meet the other processes of this stage, if there are any."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not dist.is_torchelastic_launched():
            return cls()
        if not dist.is_initialized():
            if torch.cuda.is_available():
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            dist.init_process_group(_transport(), timeout=_TIMEOUT)
        return cls(dist.get_rank(), dist.get_world_size())

    @classmethod
    def join_group(cls) -> Processes:
        """As `join`, but a process that is alone forms a group too, as sharding asks for."""
        processes = cls.join()
        if not dist.is_initialized():
            store = torch.distributed.HashStore()  # pyright: ignore[reportPrivateImportUsage]
            dist.init_process_group(_transport(), store=store, rank=0, world_size=1)
        return processes

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes files."""
        return self.rank == 0

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether it is set in any process."""
        if self.size == 1:
            return list(flags)
        sums = torch.tensor([int(flag) for flag in flags])
        dist.all_reduce(sums, dist.ReduceOp.MAX)
        return [bool(value) for value in sums]

    def all_of(self, flag: bool) -> list[bool]:
        """The `flag` of every rank, in order."""
        flags = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        if self.size == 1:
            return [flag]
        dist.all_gather(flags, torch.tensor([int(flag)]))
        return [bool(value) for value in flags]

    def word_of_first(self, word: str) -> str:
        """Rank 0's `word`."""
        if self.size == 1:
            return word
        words = [word]
        dist.broadcast_object_list(words, src=0, device=torch.device("cpu"))
        return words[0]

    def bring_to_first(self, data: bytes) -> list[bytes]:
        """The `data` of all ranks, in order, in rank 0; an empty list in the others."""
        if self.size == 1:
            return [data]
        found = [b""] * self.size if self.first else None
        dist.gather_object(data, found, dst=0)
        return found or []
