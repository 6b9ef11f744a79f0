"""Which rows a process reads: the global batch of every step, shared out in micro-batches.

Micro-batch k of a run goes to rank k mod size, so that the rows of a step are the same for any number of
processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Dataset, Sampler

from codellm_dag.recipes.global_batch import largest_micro_rows, uneven
from codellm_dag.training.divergence import Rollback, without_skipped
from codellm_dag.training.plan import Plan
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import Rows, row_order


class UnevenBatchError(ValueError):
    """The global batch cannot be shared out among these processes; the message says which numbers can."""

    label = "invalid_recipe"


def micro_rows(global_rows: int, processes: int, most: int = 0) -> int:
    """Rows of one forward pass of one process: the largest divisor of its share that is at most `most`.

    `most` 0 sets no bound: the share is one pass. Raises UnevenBatchError if `global_rows` is no multiple of
    `processes`.
    """
    if line := uneven(global_rows, processes):
        raise UnevenBatchError(line)
    return largest_micro_rows(global_rows // processes, most)


def accumulation_steps(plan: Plan, processes: int) -> int:
    """Forward passes of one process in one step."""
    return plan.batch.global_rows // (processes * plan.micro_rows)


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
