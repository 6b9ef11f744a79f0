"""What stages are doing, live: a bar for each running stage, a line for each that is done.

On a terminal the bars are at the bottom and finished stages scroll up above them. Elsewhere every start, end
and now and then some progress is one plain line. Reused partitions of one asset share a line.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from codellm_dag.cli import format as fmt
from codellm_dag.cli.session import escape
from codellm_dag.launch import StageEvent
from codellm_dag.lineage.graph import label

_LINE_SECONDS = 15.0
"""How often a running stage gets a line where there are no bars."""
_WIDE = 96
"""Columns from which there is room for everything."""
_NAME_WIDTH, _NARROW_NAME_WIDTH = 36, 30


@dataclass
class Done:
    """How one asset partition ended."""

    asset: str
    partition: str | None
    action: str
    """computed, reused or failed"""
    reason: str
    seconds: float


@dataclass
class _Running:
    event: StageEvent
    started: float
    task: TaskID | None = None
    said: float = field(default_factory=time.monotonic)


class StageProgress:
    """Call it with every StageEvent inside a ``with`` block; `done` lists what ended so far."""

    def __init__(self, console: Console, *, tell_done: bool = True) -> None:
        """With `tell_done` False the caller writes the lines of what is done (with `line`)."""
        self.console = console
        self._tell_done = tell_done
        self.done: list[Done] = []
        self._running: dict[tuple[str, str | None], _Running] = {}
        self._reused: list[Done] = []
        self._idle: TaskID | None = None
        self._bars = _bars(console) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        if self._bars:
            self._bars.stop()

    def __call__(self, event: StageEvent) -> None:
        """Show one event."""
        key = (event.asset, event.partition)
        if self._bars and self._idle is not None:
            self._bars.remove_task(self._idle)
            self._idle = None
        if event.type != "reused" or (self._reused and event.asset != self._reused[0].asset):
            self._flush()
        match event.type:
            case "started":
                self._start(key, event)
            case "progress":
                self._advance(key, event)
            case "finished":
                self._end(key, event, "computed")
            case "failed":
                self._end(key, event, "failed")
            case "reused":
                reason = event.message.removesuffix(f", as {event.title}")
                self._reused.append(Done(*key, "reused", reason, 0.0))
            case "waiting" | "retrying":
                self.say(f"[yellow]…[/] {escape(label(*key))}  {escape(event.message)}")

    def wait_for(self, what: str) -> None:
        """Show that something other than a stage goes on, until the first event."""
        if self._bars:
            self._idle = self._bars.add_task(what, total=None, amount="", rate="", eta="", note="")

    def say(self, line: str) -> None:
        """One line, with markup, above the bars."""
        self.console.print(line, soft_wrap=not self.console.is_terminal)

    def _start(self, key: tuple[str, str | None], event: StageEvent) -> None:
        running = _Running(event, time.monotonic())
        self._running[key] = running
        if self._bars:
            running.task = self._bars.add_task(label(*key), total=None, amount="", rate="", eta="", note="")
        else:
            self.say(f"> {escape(label(*key))}")

    def _advance(self, key: tuple[str, str | None], event: StageEvent) -> None:
        running = self._running.get(key)
        if running is None:
            return
        if self._bars and running.task is not None:
            self._bars.update(
                running.task,
                total=event.total or None,
                completed=event.done,
                amount=_amount(event),
                rate=_rate(event),
                eta=_eta(event),
                note=event.note,
            )
        elif time.monotonic() - running.said >= _LINE_SECONDS:
            running.said = time.monotonic()
            told = [_amount(event), _rate(event), _eta(event), event.note]
            self.say(f"  {escape(label(*key))}  {escape(', '.join(part for part in told if part))}")

    def _end(self, key: tuple[str, str | None], event: StageEvent, action: str) -> None:
        running = self._running.pop(key, None)
        seconds = time.monotonic() - running.started if running else 0.0
        if self._bars and running and running.task is not None:
            self._bars.remove_task(running.task)
        reason = event.message if action == "failed" else running.event.message if running else ""
        if action == "failed":
            reason = "stopped" if event.label == "killed" else f"{event.label}: {reason}"
        done = Done(*key, action, reason, seconds)
        self.done.append(done)
        if self._tell_done or action == "failed":
            self._line([done])

    def _flush(self) -> None:
        """Write the line of the reused partitions of one asset, or of each reason if they differ."""
        reused, self._reused = self._reused, []
        for reason in dict.fromkeys(done.reason for done in reused):
            self._line([done for done in reused if done.reason == reason])
        self.done += reused

    def _line(self, group: list[Done]) -> None:
        first = group[0]
        mark = {"computed": "[green]✓[/]", "reused": "[blue]=[/]", "failed": "[red]✗[/]"}[first.action]
        name = label(first.asset, first.partition) if len(group) == 1 else first.asset
        took = "" if first.action == "reused" else fmt.duration(first.seconds)
        count = f"{len(group)} partitions, " if len(group) > 1 else ""
        reason = first.reason.splitlines()[0] if first.reason else ""
        told = f"{count}{first.action}: {reason}"
        self.line(mark, name, took, told)

    def line(self, mark: str, name: str, took: str, told: str) -> None:
        """The line of something that is done; only `mark` has markup."""
        width, time_width = (_NAME_WIDTH, 12) if self.console.width >= _WIDE else (_NARROW_NAME_WIDTH, 10)
        self.say(f"{mark} {escape(f'{name:<{width}}')} {took:>{time_width}}  [dim]{escape(told)}[/]")


class _Amount(TextColumn):
    """A column of a task's field, dim, as wide as its text."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{{task.fields[{name}]}}", style="dim", markup=False)


def _bars(console: Console) -> Progress:
    wide = console.width >= _WIDE
    name = _NAME_WIDTH if wide else _NARROW_NAME_WIDTH
    columns = [
        SpinnerColumn(style="green"),
        TextColumn("{task.description}", markup=False, table_column=Column(width=name)),
        BarColumn(bar_width=20 if wide else 8, complete_style="green", pulse_style="dim green"),
        _Amount("amount"),
        _Amount("rate"),
        _Amount("eta"),
        *([TimeElapsedColumn()] if wide else []),
        *([_Amount("note")] if console.width >= 120 else []),
    ]
    # Rich would catch what is printed to the standard streams; in a demo that is Dagster's log.
    return _OneLine(
        *columns,
        console=console,
        transient=True,
        refresh_per_second=5,
        redirect_stdout=False,
        redirect_stderr=False,
    )


class _OneLine(Progress):
    """Bars whose rows are cut at the terminal's edge and never wrap."""

    def make_tasks_table(self, tasks: Iterable[Task]):
        """The table of bars."""
        table = super().make_tasks_table(tasks)
        for column in table.columns:
            column.no_wrap = True
            column.overflow = "ellipsis"
        return table


def _amount(event: StageEvent) -> str:
    if not event.total:
        return f"{_count(event.done)} {event.unit}".rstrip()
    return f"{_count(event.done)}/{_count(event.total)} {event.unit}".rstrip()


def _rate(event: StageEvent) -> str:
    return f"{_count(event.rate)}/s" if event.rate else ""


def _eta(event: StageEvent) -> str:
    if not event.rate or event.total <= event.done:
        return ""
    return f"{fmt.duration((event.total - event.done) / event.rate)} left"


def _count(value: float) -> str:
    for unit in ("", "k", "M", "G", "T", "P"):
        if abs(value) < 999.5:
            return f"{value:.0f}{unit}" if value >= 99.5 or value == int(value) else f"{value:.1f}{unit}"
        value /= 1000
    return f"{value:.1f}E"
