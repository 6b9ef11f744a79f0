"""The `Report` that stages are given: cheap to call, at most five progress messages a second.

Each event is a Pipes custom message ``{"event": …, "at": seconds since 1970, …}``: ``progress``, ``metric``,
``points``, ``work``, ``table``, ``environment``, ``outputs``, ``failed``. Log lines are Pipes log messages.
In a pod the stage's watcher adds two more, ``heartbeat`` (`relay.py`) and ``saved`` (`pod.py`): they tell
that the process lives, never that the stage goes on.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster_pipes import PipesContext

from codellm_dag.recipes.runtime import Runtime

INTERVAL = 0.2
"""Seconds between two progress messages."""
MAX_ROWS = 100
"""Rows a reported table may have."""
_WINDOW = 15.0  # seconds over which a rate is taken
_MAX_PENDING = 500


class StageReport:
    """Sends what a stage reports through a Pipes session. Safe to call from several threads."""

    def __init__(
        self,
        session: PipesContext,
        runtime: Runtime,
        resume_dir: Path,
        clock: Callable[[], float] = time.monotonic,
        stop_requested: Callable[[], bool] = lambda: False,
    ) -> None:
        self.runtime = runtime
        self.resume_dir = resume_dir
        self.stop_requested = stop_requested
        self._session = session
        self._clock = clock
        self._lock = threading.Lock()
        self._sent_at = -math.inf
        self._sent_kind: tuple[str, str, float] | None = None
        self._progress: dict[str, Any] | None = None
        self._work: dict[str, Any] | None = None
        self._history: deque[tuple[float, float]] = deque()
        self._points: list[tuple[int, dict[str, float | None]]] = []

    def progress(self, done: float, total: float, unit: str = "", note: str = "") -> None:
        """Say how far the work is: ``done`` of ``total`` in ``unit``, with a short note."""
        with self._lock:
            now = self._clock()
            kind = (unit, note, float(total))
            self._progress = {
                "done": _number("done", done),
                "total": _number("total", total),
                "unit": str(unit),
                "note": str(note),
                "rate": self._rate(now, float(done)),
            }
            if now - self._sent_at >= INTERVAL or (kind != self._sent_kind and now - self._sent_at >= 0.02):
                self._sent_kind = kind
                self._send_pending(now)

    def work(self, tokens: int, flops: float | None) -> None:
        """What this attempt has done since its start."""
        with self._lock:
            self._work = {"tokens": int(tokens), "flops": None if flops is None else float(flops)}

    def metric(self, **values: float | int | str | bool) -> None:
        """Final scalars of the stage; numbers that are not finite are kept as text ('nan', 'inf')."""
        self._send("metric", values={name: _scalar(name, value) for name, value in values.items()})

    def point(self, step: int, **values: float) -> None:
        """A point of one or more time series; values that are not finite become gaps."""
        point = {name: _finite(_number(name, value)) for name, value in values.items()}
        with self._lock:
            self._points.append((int(step), point))
            now = self._clock()
            if now - self._sent_at >= INTERVAL or len(self._points) >= _MAX_PENDING:
                self._send_pending(now)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A small table. Raises ValueError for more than 100 rows, TypeError for cells that are not plain."""
        if len(rows) > MAX_ROWS:
            raise ValueError(f"report.table({name!r}) has {len(rows)} rows; at most {MAX_ROWS} are allowed")
        plain = [
            {str(key): None if value is None else _scalar(key, value) for key, value in row.items()}
            for row in rows
        ]
        self._send("table", name=str(name), rows=plain)

    def log(self, message: str) -> None:
        """A line for a person who reads the log."""
        with self._lock:
            self._session.log.info("%s", str(message))

    def flush(self) -> None:
        """Send what is held back."""
        with self._lock:
            self._send_pending(self._clock())

    def _send_pending(self, now: float) -> None:
        if self._progress is not None:
            self._send("progress", **self._progress)
            self._progress = None
        if self._points:
            self._send("points", points=self._points)
            self._points = []
        if self._work is not None:
            self._send("work", **self._work)
            self._work = None
        self._sent_at = now

    def _send(self, event: str, **values: Any) -> None:
        self._session.report_custom_message({"event": event, "at": time.time(), **values})

    def _rate(self, now: float, done: float) -> float | None:
        """Units per second over the last quarter minute; None before there is a difference."""
        history = self._history
        if history and done < history[-1][1]:
            history.clear()  # a new phase counts from the start again
        history.append((now, done))
        while len(history) > 2 and now - history[0][0] > _WINDOW:
            history.popleft()
        elapsed = now - history[0][0]
        return (done - history[0][1]) / elapsed if elapsed > 0 else None


def _scalar(name: str, value: Any) -> float | int | str | bool:
    item = getattr(value, "item", None)
    plain = item() if callable(item) else value
    if isinstance(plain, float) and not math.isfinite(plain):
        return str(plain)
    if isinstance(plain, (bool, int, float, str)):
        return plain
    raise TypeError(f"report: {name} = {value!r} is a {type(value).__name__}; allowed: int, float, str, bool")


def _number(name: str, value: Any) -> float | int:
    item = getattr(value, "item", None)
    plain = item() if callable(item) else value
    if isinstance(plain, (int, float)):
        return plain
    raise TypeError(f"report: {name} = {value!r} is a {type(value).__name__}; a number is needed")


def _finite(value: float | int) -> float | int | None:
    return value if math.isfinite(value) else None
