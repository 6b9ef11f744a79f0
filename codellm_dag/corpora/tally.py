"""Counting what a cleaning removes: documents and bytes in and out, reasons, per step and per source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from codellm_dag.corpora.steps.base import Rejection


class Counted(Protocol):
    """What is counted: a document, or a chat example."""

    @property
    def source(self) -> str: ...
    @property
    def bytes(self) -> int: ...


@dataclass
class Count:
    """What went into one step (or into all) and what came out of it."""

    documents_in: int = 0
    documents_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    edited: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, before: Counted, after: Counted | Rejection) -> None:
        """Count one document that was kept, edited or rejected."""
        self.documents_in += 1
        self.bytes_in += before.bytes
        if isinstance(after, Rejection):
            self.reasons[after.reason] += 1
            return
        self.documents_out += 1
        self.bytes_out += after.bytes
        self.edited += after is not before

    def as_dict(self) -> dict[str, Any]:
        """The counts, reasons in sorted order."""
        return {
            "documents_in": self.documents_in,
            "documents_out": self.documents_out,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "edited": self.edited,
            "reasons": dict(sorted(self.reasons.items())),
        }


class Tally:
    """The counts of every step and of all steps together, for each source and in all."""

    def __init__(self, steps: Sequence[str]) -> None:
        self._steps = {step: (Count(), {}) for step in steps}
        self._total: tuple[Count, dict[str, Count]] = (Count(), {})

    def add(self, step: str, before: Counted, after: Counted | Rejection) -> None:
        """Count a document at a step."""
        _add(self._steps[step], before, after)

    def add_total(self, before: Counted, after: Counted | Rejection) -> None:
        """Count a document at the end of its way through the steps."""
        _add(self._total, before, after)

    def as_dict(self) -> dict[str, Any]:
        """What ``steps.json`` holds: ``steps`` in their order, and ``total``; each with its ``sources``."""
        return {
            "steps": [{"step": step, **_dump(counts)} for step, counts in self._steps.items()],
            "total": _dump(self._total),
        }


def _add(counts: tuple[Count, dict[str, Count]], before: Counted, after: Counted | Rejection) -> None:
    counts[0].add(before, after)
    counts[1].setdefault(before.source, Count()).add(before, after)


def _dump(counts: tuple[Count, Mapping[str, Count]]) -> dict[str, Any]:
    sources = {name: count.as_dict() for name, count in sorted(counts[1].items())}
    return {**counts[0].as_dict(), "sources": sources}


def removal_rows(steps: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Removal rates of ``steps.json`` as a table: one row for each step and source, and for the whole."""
    rows = []
    for entry in [*steps["steps"], {"step": "total", **steps["total"]}]:
        for source, count in {"all": entry, **entry["sources"]}.items():
            if source == "all" and len(entry["sources"]) == 1:
                continue
            removed = count["documents_in"] - count["documents_out"]
            rows.append(
                {
                    "step": entry["step"],
                    "source": source,
                    "documents in": count["documents_in"],
                    "removed": removed,
                    "removed %": percent(removed, count["documents_in"]),
                    "bytes removed %": percent(count["bytes_in"] - count["bytes_out"], count["bytes_in"]),
                    "reasons": ", ".join(f"{reason} {n}" for reason, n in count["reasons"].items()),
                }
            )
    return rows


def percent(part: int, whole: int) -> float:
    """``part`` in percent of ``whole``, to two places; 0 of nothing."""
    return round(100 * part / whole, 2) if whole else 0.0
