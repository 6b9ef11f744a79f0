"""A report for a stage that runs inside another one, as a point of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codellm_dag.stages.protocol import Report


@dataclass
class Worked:
    """Tokens and operations of all inner stages of this attempt; operations are None where unknown."""

    tokens: int = 0
    flops: float | None = 0.0


class NestedReport:
    """Keeps what the inner stage reports; the outer report hears progress, log lines and the wish to end.

    The inner stage's ``done`` of ``total`` is scaled to `total - done` of the outer one, from `done` on.
    """

    def __init__(self, outer: Report, done: float, total: float, name: str, worked: Worked) -> None:
        self.outer, self.name = outer, name
        self._worked, self._before = worked, (worked.tokens, worked.flops)
        self.runtime = outer.runtime
        self.resume_dir: Path = outer.resume_dir
        self.metrics: dict[str, Any] = {}
        self.points: list[tuple[int, dict[str, float]]] = []
        self._done, self._total = done, total

    def stop_requested(self) -> bool:
        """Whether the outer attempt was asked to end."""
        return self.outer.stop_requested()

    def progress(self, done: float, total: float, unit: str = "", note: str = "") -> None:
        """Move the outer bar on by what the inner stage did."""
        del total
        self.outer.progress(self._done + done, self._total, unit, f"{self.name} {note}".strip())

    def work(self, tokens: int, flops: float | None) -> None:
        """Add the inner stage's work to that of the stages before it in this attempt."""
        earlier_tokens, earlier_flops = self._before
        self._worked.tokens = earlier_tokens + tokens
        self._worked.flops = None if flops is None or earlier_flops is None else earlier_flops + flops
        self.outer.work(self._worked.tokens, self._worked.flops)

    def metric(self, **values: float | int | str | bool) -> None:
        """Keep the inner stage's scalars."""
        self.metrics.update(values)

    def point(self, step: int, **values: float) -> None:
        """Keep a point of the inner stage's curves."""
        self.points.append((step, values))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Inner tables are not shown."""
        del name, rows

    def log(self, message: str) -> None:
        """Pass a line on, with the point's name."""
        self.outer.log(f"{self.name}: {message}")
