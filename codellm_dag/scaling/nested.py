"""A report for what runs inside a study: a trial's own loop, or a whole stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codellm_dag.stages.protocol import Report, Stopped


@dataclass
class Worked:
    """Tokens and operations of all trials of this attempt; operations are None where unknown."""

    tokens: int = 0
    flops: float | None = 0.0


@dataclass(frozen=True)
class StudyBar:
    """A bar over a study's ``total``; operations are shown as MFLOP, GFLOP, … as suits them."""

    total: float
    unit: str = "FLOP"

    def show(self, report: Report, done: float, note: str) -> None:
        """Tell `report` that `done` of the total is done."""
        if self.unit != "FLOP":
            report.progress(done, self.total, self.unit, note)
            return
        power = max(0, min(6, int(math.log10(max(self.total, 1.0))) // 3))
        scale, prefix = 1000.0**power, ("", "k", "M", "G", "T", "P", "E")[power]
        report.progress(round(done / scale, 3), round(self.total / scale, 3), f"{prefix}FLOP", note)


class NestedReport:
    """Keeps what a trial reports; the outer report hears progress, log lines and the wish to end.

    The trial's ``done`` of ``total`` moves the outer `bar` from `done` on by up to `flops`.
    """

    def __init__(
        self, outer: Report, name: str, done: float, flops: float, bar: StudyBar, worked: Worked
    ) -> None:
        self.outer, self.name, self._bar = outer, name, bar
        self._worked, self._before = worked, (worked.tokens, worked.flops)
        self._own = Worked()
        self.runtime = outer.runtime
        self.resume_dir: Path = outer.resume_dir
        self.metrics: dict[str, Any] = {}
        self.points: list[tuple[int, dict[str, float]]] = []
        self._done, self._flops = done, flops

    def stop_requested(self) -> bool:
        """Whether the outer attempt was asked to end."""
        return self.outer.stop_requested()

    def step(self, tokens: int, flops: float) -> None:
        """Count a step of an own loop: tokens trained on and operations done in it.

        Raises Stopped where the attempt was asked to end.
        """
        assert self._own.flops is not None
        self._own.tokens += tokens
        self._own.flops += flops
        self.work(self._own.tokens, self._own.flops)
        self.progress(self._own.flops, self._flops)
        if self.stop_requested():
            raise Stopped(f"asked to end within trial {self.name}")

    def progress(self, done: float, total: float, unit: str = "", note: str = "") -> None:
        """Move the outer bar on by the trial's share that is done."""
        del unit
        share = min(1.0, done / total) if total else 0.0
        note = f"{self.name} {note}".strip()
        self._bar.show(self.outer, self._done + self._flops * share, note)

    def work(self, tokens: int, flops: float | None) -> None:
        """Add the trial's work to that of the trials before it in this attempt."""
        earlier_tokens, earlier_flops = self._before
        self._worked.tokens = earlier_tokens + tokens
        self._worked.flops = None if flops is None or earlier_flops is None else earlier_flops + flops
        self.outer.work(self._worked.tokens, self._worked.flops)

    def metric(self, **values: float | int | str | bool) -> None:
        """Keep the trial's scalars."""
        self.metrics.update(values)

    def point(self, step: int, **values: float) -> None:
        """Keep a point of the trial's curves."""
        self.points.append((step, values))

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Inner tables are not shown."""
        del name, rows

    def log(self, message: str) -> None:
        """Pass a line on, with the trial's name."""
        self.outer.log(f"{self.name}: {message}")
