"""How a global batch is shared out: over processes, and within one over forward passes. No PyTorch."""

from __future__ import annotations

_MOST_NAMED = 1024  # processes


def processes_that_share(global_rows: int) -> str:
    """Numbers of processes among which `global_rows` can be shared out evenly, up to 1,024, as text."""
    most = min(global_rows, _MOST_NAMED)
    return ", ".join(str(number) for number in range(1, most + 1) if global_rows % number == 0)


def uneven(global_rows: int, processes: int, field: str = "batch.global_rows") -> str:
    """Why a global batch cannot be shared out among `processes`, and which numbers can; empty if it can."""
    if global_rows % processes == 0:
        return ""
    return (
        f"{field} = {global_rows} cannot be shared out among {processes} processes; allowed: a "
        f"multiple of {processes}, or {processes_that_share(global_rows)} processes"
    )


def largest_micro_rows(share: int, most: int = 0) -> int:
    """Rows of one forward pass of a process that has `share` of a step's: the largest divisor up to `most`.

    `most` 0 sets no bound.
    """
    return next(rows for rows in range(min(share, most or share), 0, -1) if share % rows == 0)
