"""Which rows a process reads: the global batch of every step, shared out in micro-batches.

Micro-batch k of a run goes to rank k mod size, so that the rows of a step are the same for any number of
processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Dataset, Sampler

from codellm_dag.recipes.training import Batch
from codellm_dag.training.divergence import Rollback, without_skipped
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import Rows, row_order


class UnevenBatchError(ValueError):
    """The global batch cannot be shared out among these processes; the message says which numbers can."""

    label = "invalid_recipe"


def accumulation_steps(batch: Batch, processes: int) -> int:
    """Micro-batches of one process in one step. Raises UnevenBatchError."""
    rows = batch.micro_rows * processes
    if batch.global_rows % rows:
        most = batch.global_rows // batch.micro_rows
        fitting = ", ".join(str(number) for number in range(1, most + 1) if most % number == 0)
        raise UnevenBatchError(
            f"batch.global_rows = {batch.global_rows} is no multiple of batch.micro_rows = {batch.micro_rows}"
            f" times {processes} processes; use {fitting} processes, or another micro_rows"
        )
    return batch.global_rows // rows


class OrderedRows(Dataset):
    """The `total` rows of a run in the order they are read, as tensors; none that `rollbacks` left out."""

    def __init__(self, rows: Rows, total: int, seed: int, rollbacks: Sequence[Rollback] = ()) -> None:
        self.rows = rows
        skipped = sum(rollback.rows for rollback in rollbacks)
        self.order = without_skipped(row_order(len(rows), total + skipped, seed), rollbacks)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens, positions, targets = self.rows.row(int(self.order[index]))
        return {
            "input_ids": torch.from_numpy(tokens),
            "position_ids": torch.from_numpy(positions),
            "labels": torch.from_numpy(targets),
        }


class MicroBatches(Sampler[list[int]]):
    """Places in the order of rows of one rank's micro-batches: every `size`-th of all, from `rank` on."""

    def __init__(self, total_rows: int, micro_rows: int, processes: Processes) -> None:
        self.micro_rows = micro_rows
        self.numbers = range(processes.rank, total_rows // micro_rows, processes.size)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[list[int]]:
        for number in self.numbers:
            yield list(range(number * self.micro_rows, (number + 1) * self.micro_rows))
