"""Gathers an attempt's messages: for the manifest, and as events for whoever watches."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codellm_dag.launch.events import StageEvent
from codellm_dag.store import Environment, Label, Output

MAX_POINTS = 1000
"""Points a time series keeps in the manifest; a longer one is thinned evenly and keeps its ends."""

Message = Mapping[str, Any]
Point = tuple[int, dict[str, float | None]]
"""A step, and the values of the time series there."""


@dataclass
class Collector:
    """Call it with each message. `emit` gets an event made with the given fields.

    A cluster may end a stage's process and start another in the same attempt. Each session begins with an
    ``opened`` message: what the one before it said of a result or a failure counts no more, its points do.
    """

    emit: Callable[..., None]
    sessions: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    environment: Environment = field(default_factory=Environment)
    outputs: list[Output] | None = None
    closed: bool = False
    label: Label | None = None
    error: str = ""
    work: dict[str, Any] = field(default_factory=dict)
    _earlier_work: dict[str, Any] = field(default_factory=dict)
    _earlier: list[Point] = field(default_factory=list)

    def __call__(self, message: Message) -> None:
        """Take one Pipes message."""
        method, params = message["method"], message.get("params") or {}
        if method == "log":
            self.emit("log", message=str(params.get("message", "")))
        elif method == "opened":
            self._open()
        elif method == "closed":
            self.closed = True
            if "exception" in params and self.label is None:
                self.label, self.error = "error", str(params["exception"].get("message", "")).strip()
        elif method == "report_custom_message":
            payload = params.get("payload")
            if isinstance(payload, dict) and "event" in payload:
                self._custom(payload)

    @property
    def succeeded(self) -> bool:
        """Whether the stage closed its session and named no failure."""
        return self.closed and self.label is None

    @property
    def all_points(self) -> list[Point]:
        """The points of all sessions."""
        return joined_points(self._earlier, self.points)

    def _open(self) -> None:
        self.sessions += 1
        self._earlier, self.points = self.all_points, []
        self._earlier_work = dict(self.work)
        self.metrics, self.tables, self.environment = {}, {}, Environment()
        self.outputs, self.closed, self.label, self.error = None, False, None, ""

    def _custom(self, payload: Mapping[str, Any]) -> None:
        match payload["event"]:
            case "progress":
                fields = ("done", "total", "unit", "note", "rate")
                self.emit("progress", at=payload["at"], **{name: payload[name] for name in fields})
            case "metric":
                self.metrics.update(payload["values"])
                self.emit("metric", at=payload["at"], values=payload["values"])
            case "points":
                for step, values in payload["points"]:
                    self.points.append((step, values))
                    self.emit("point", at=payload["at"], step=step, values=values)
            case "work":
                done = {name: payload[name] for name in ("tokens", "flops") if payload[name] is not None}
                before = self._earlier_work
                self.work = before | {name: value + before.get(name, 0) for name, value in done.items()}
            case "table":
                self.tables[payload["name"]] = payload["rows"]
                self.emit("table", at=payload["at"], name=payload["name"], rows=payload["rows"])
            case "environment":
                self.environment = Environment.model_validate(payload["values"])
            case "outputs":
                self.outputs = [Output.model_validate(item) for item in payload["outputs"]]
            case "failed":
                self.label, self.error = payload["label"], payload["error"]

    def series(self, earlier: Sequence[Point]) -> dict[str, list[tuple[int, float | None]]]:
        """Each time series, with the `earlier` points of attempts whose work was resumed."""
        found: dict[str, dict[int, float | None]] = {}
        for step, values in joined_points(earlier, self.all_points):
            for name, value in values.items():
                found.setdefault(name, {})[step] = value
        return {name: thin(sorted(points.items())) for name, points in sorted(found.items())}


def joined_points(earlier: Sequence[Point], later: Sequence[Point]) -> list[Point]:
    """Points of an attempt and of one that resumed its work: the earlier ones end where the later begin."""
    first = min((step for step, _ in later), default=None)
    return [*(point for point in earlier if first is None or point[0] < first), *later]


def thin(points: Sequence[tuple[int, float | None]]) -> list[tuple[int, float | None]]:
    """At most MAX_POINTS of `points`, evenly spread, the first and the last among them."""
    if len(points) <= MAX_POINTS:
        return list(points)
    last = len(points) - 1
    return [points[round(index * last / (MAX_POINTS - 1))] for index in range(MAX_POINTS)]


def save_points(path: Path, points: Iterable[tuple[int, Mapping[str, float | None]]]) -> None:
    """Append points of an attempt that ended too early, for the attempt that resumes its work."""
    lines = "".join(json.dumps([step, values]) + "\n" for step, values in points)
    if lines:
        with path.open("a") as stream:
            stream.write(lines)


def load_points(path: Path) -> list[Point]:
    """What `save_points` wrote; a torn last line is left out."""
    found = []
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            step, values = json.loads(line)
        except ValueError:
            continue
        found.append((int(step), dict(values)))
    return found


def make_emitter(
    on_event: Callable[[StageEvent], None] | None,
    *,
    stage: str,
    asset: str,
    partition: str | None,
    fingerprint: str,
    attempt: str | None = None,
) -> Callable[..., None]:
    """A function ``emit(type, **fields)`` that hands complete events to `on_event`."""

    def emit(kind: Any, **fields: Any) -> None:
        if on_event is not None:
            event = StageEvent(
                type=kind,
                stage=stage,
                asset=asset,
                partition=partition,
                fingerprint=fingerprint,
                attempt=attempt,
                **fields,
            )
            on_event(event)

    return emit


def forgiving(on_event: Callable[[StageEvent], None] | None) -> Callable[[StageEvent], None] | None:
    """`on_event`, but once it has raised it is told no more: no work is lost to a progress bar."""
    if on_event is None:
        return None
    watcher: list[Callable[[StageEvent], None]] = [on_event]

    def tell(event: StageEvent) -> None:
        if not watcher:
            return
        try:
            watcher[0](event)
        except Exception as error:
            watcher.clear()
            what = f"the watcher of {event.title} failed on a {event.type} event and is not told more"
            warnings.warn(f"{what}: {error!r}", stacklevel=2)

    return tell
