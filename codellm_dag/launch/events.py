"""What a caller sees of a stage while it runs: for progress bars and for Dagster's event log."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

EventType = Literal[
    "waiting",
    "reused",
    "started",
    "progress",
    "point",
    "metric",
    "table",
    "log",
    "finished",
    "failed",
    "retrying",
]


@dataclass(frozen=True)
class StageEvent:
    """One thing that happened. Fields that do not belong to its type are empty.

    - ``waiting``: another process computes the same thing; ``message`` says so
    - ``reused``: a proven hit, nothing runs; ``message`` is the decision's first reason
    - ``started``: an attempt begins; ``message`` is why it is computed
    - ``progress``: ``done`` of ``total`` in ``unit``, ``rate`` in units per second (None at first), ``note``
    - ``point``: ``step`` and ``values`` of time series; None is a gap
    - ``metric``: ``values``
    - ``table``: ``name`` and ``rows``
    - ``log``: ``message``
    - ``finished``, ``failed``, ``retrying``: an attempt ended; ``label``, ``message``
    """

    type: EventType
    stage: str
    asset: str
    partition: str | None
    fingerprint: str
    attempt: str | None = None
    at: float = field(default_factory=time.time)
    message: str = ""
    label: str = ""
    done: float = 0.0
    total: float = 0.0
    unit: str = ""
    note: str = ""
    rate: float | None = None
    step: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    rows: Sequence[Mapping[str, Any]] = ()

    @property
    def title(self) -> str:
        """``asset`` or ``asset/partition``."""
        return self.asset if self.partition is None else f"{self.asset}/{self.partition}"


class PipesSink(Protocol):
    """An open Dagster Pipes session as this package sees it (a `dagster.PipesSession` behind two methods)."""

    def env(self) -> Mapping[str, str]:
        """Variables that hand Dagster's context to the stage's process (``get_bootstrap_env_vars()``)."""
        ...

    def handle(self, message: Mapping[str, Any]) -> None:
        """Take one Pipes message (``message_handler.handle_message``)."""
        ...


class PipesBridge(Protocol):
    """Opens a Pipes session for each attempt; never asked for a reused artifact."""

    def __call__(self) -> AbstractContextManager[PipesSink]:
        """Open a session."""
        ...
