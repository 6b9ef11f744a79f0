"""Which rows a process reads: the global batch of every step, shared out in micro-batches.

Micro-batch k of a run goes to rank k mod size, so that the rows of a step are the same for any number of
processes. Where the batch grows, steps differ in the number of micro-batches; `Trainer` counts as many in
each, so smaller steps begin with empty ones, in which nothing is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Dataset, Sampler, default_collate

from codellm_dag.recipes.global_batch import largest_micro_rows, uneven
from codellm_dag.training.divergence import Rollback, without_skipped
from codellm_dag.training.plan import Plan
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import Rows, row_order


class UnevenBatchError(ValueError):
    """The global batch cannot be shared out among these processes; the message says which numbers can."""

    label = "invalid_recipe"


def micro_rows(global_rows: int, processes: int, most: int = 0, field: str = "batch.global_rows") -> int:
    """Rows of one forward pass of one process: the largest divisor of its share that is at most `most`.

    `most` 0 sets no bound: the share is one pass. Raises UnevenBatchError, which names `field`, if
    `global_rows` is no multiple of `processes`.
    """
    if line := uneven(global_rows, processes, field):
        raise UnevenBatchError(line)
    return largest_micro_rows(global_rows // processes, most)


def accumulation_steps(plan: Plan, processes: int) -> int:
    """Forward passes of one process in one step, in the step that has most."""
    return max(part.rows // (processes * part.micro_rows) for part in plan.schedule.stretches)


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

    def together(self, rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """A micro-batch, each tensor int64 [rows, t]; it may have no rows."""
        if rows:
            return default_collate(rows)
        empty = torch.empty(0, self.rows.sequence_length, dtype=torch.int64)
        return {"input_ids": empty, "position_ids": empty, "labels": empty}


class MicroBatches(Sampler[list[int]]):
    """Places in the order of rows of one rank's micro-batches: every `size`-th of all, from `rank` on.

    As many in every step; those that a smaller step does not need are empty and come first.
    """

    def __init__(self, plan: Plan, processes: Processes) -> None:
        self.plan, self.processes = plan, processes
        self.passes = accumulation_steps(plan, processes.size)

    def __len__(self) -> int:
        return self.plan.steps * self.passes

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.plan.steps):
            micro = self.plan.schedule.at(step).micro_rows
            first = self.plan.rows_until(step) + self.processes.rank * micro
            own = range(first, self.plan.rows_until(step + 1), self.processes.size * micro)
            yield from ([] for _ in range(self.passes - len(own)))
            yield from (list(range(at, at + micro)) for at in own)
