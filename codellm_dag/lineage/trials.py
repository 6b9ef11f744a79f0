"""The ledger as a person reads it: every attempt that was ever made, the failed ones too."""

from __future__ import annotations

from collections.abc import Collection
from typing import get_args

from codellm_dag.lineage.errors import LineageError
from codellm_dag.store import Attempt, Label, Store

LABELS: tuple[str, ...] = get_args(Label)
FAILED = "failed"
"""Stands for every label but ``ok``."""


def list_trials(store: Store, asset: str = "", label: str = "", last: int = 0) -> list[Attempt]:
    """Attempts, oldest first: those of one asset, those with one label (or ``failed``), the `last` so many.

    Raises LineageError for a label or an asset that does not exist.
    """
    if label and label != FAILED and label not in LABELS:
        raise LineageError(f"--label {label!r} does not exist; allowed: {FAILED}, {', '.join(LABELS)}")
    rows = store.ledger.rows()
    if asset and asset not in (assets := _assets(rows)):
        raise LineageError(
            f"--asset {asset!r} has no attempts; there are: {', '.join(sorted(assets)) or 'none'}"
        )
    chosen = [row for row in rows if asset in ("", row.asset) and _fits(row, label)]
    return chosen[-last:] if last else chosen


def _fits(row: Attempt, label: str) -> bool:
    return not label or (row.label != "ok" if label == FAILED else row.label == label)


def _assets(rows: Collection[Attempt]) -> set[str]:
    return {row.asset for row in rows}
