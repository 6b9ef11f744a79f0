"""The sessions of one remote attempt: a cluster may end a stage's process and start another in its place.

A pod that was evicted, or a Job that its queue suspended, comes back within the same attempt and opens a
second session among the same messages. Each session that was cut short is a row of the ledger of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from codellm_dag.launch.collector import Collector
from codellm_dag.launch.launcher import Ended
from codellm_dag.launch.remote import LaunchRecord
from codellm_dag.store import Attempt


class Sessions:
    """Call it with each message: it hands them on to `collector` and tells of each interruption."""

    def __init__(
        self, record: LaunchRecord, collector: Collector, interrupted: Callable[[Attempt], None]
    ) -> None:
        self._record = record
        self._collector = collector
        self._interrupted = interrupted
        self._first: datetime | None = None
        self._last: datetime | None = None

    @property
    def count(self) -> int:
        """How often the attempt was interrupted."""
        return max(self._collector.sessions - 1, 0)

    def __call__(self, message: Mapping[str, Any]) -> None:
        """Take one Pipes message."""
        row = self._cut_short() if message["method"] == "opened" and self._collector.sessions else None
        self._collector(message)
        self._note_time(message)
        if row is not None:
            self._interrupted(row)

    def timed(self, ended: Ended) -> Ended:
        """`ended` without the time of the sessions that were cut short, which have rows of their own."""
        if not self.count or self._first is None:
            return ended
        return replace(ended, start=min(max(ended.start, self._first), ended.end))

    def _cut_short(self) -> Attempt:
        said = f"; it last said: {self._collector.error}" if self._collector.error else ""
        start = self._first or self._record.created
        values = known(self._record)
        values["attempt"] = f"{self._record.request.attempt}.{self._collector.sessions}"
        self._first = None
        end = self._last or start
        seconds = (end - start).total_seconds() * device_count(self._record)
        return Attempt(
            **values,
            label="evicted",
            error=f"its cluster ended its process and started another{said}",
            start=start,
            end=end,
            device_seconds=seconds,
        )

    def _note_time(self, message: Mapping[str, Any]) -> None:
        params = message.get("params") or {}
        payload = params.get("payload") or params.get("extras")
        at = payload.get("at") if isinstance(payload, dict) else None
        if isinstance(at, (int, float)):
            self._last = datetime.fromtimestamp(at, UTC)
            self._first = self._first or self._last


def known(record: LaunchRecord) -> dict[str, Any]:
    """What a launch record tells of its ledger row."""
    request = record.request
    return {
        "attempt": request.attempt,
        "stage": request.stage,
        "asset": request.asset,
        "partition": request.partition,
        "trial": request.trial,
        "fingerprint": request.fingerprint,
        "recipe": request.recipe,
    }


def device_count(record: LaunchRecord) -> int:
    """How many devices the attempt held: GPUs, or nodes without any."""
    shape = record.request.runtime.kubernetes
    return 1 if shape is None else shape.nodes * max(shape.gpus, 1)
