"""Launch records: how any orchestrator finds a remote attempt again, and what goes once it is over.

A remote attempt is reserved by one conditional create of its record in the store, before anything runs. A
record without a ledger row is an attempt that may still be alive: it is attached to, never started twice.
Attempts are numbered ``a1``, ``a2``, …; one that its cluster interrupted and started again within the same
attempt has a ledger row for each interruption: ``a1.1``, ``a1.2``, …. Not covered: how attempts are followed
(`remote_attempts.py`) and where they run (`kubernetes/`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from codellm_dag.launch.collector import Collector, Point, joined_points
from codellm_dag.stages.messages import StoreReader
from codellm_dag.stages.request import StageRequest
from codellm_dag.store import Store
from codellm_dag.store.manifest import to_json
from codellm_dag.store.paths import launch_path, messages_prefix, resume_prefix

_NUMBERED = re.compile(r"a([1-9][0-9]*)")


class LaunchRecord(BaseModel):
    """One remote attempt: what it was asked for, and under which name it runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: StageRequest
    group: str = Field(description="Name of the attempt's Job, JobSet or TrainJob")
    namespace: str
    created: datetime
    owner: str = Field(default="", description="Dagster run that reserved it; empty outside of Dagster")
    followers: tuple[str, ...] = Field(default=(), description="Dagster runs that attached to it since")

    @property
    def path(self) -> str:
        """The record's place in the store."""
        return launch_path(self.request.stage, self.request.fingerprint, self.request.attempt)


class Launches:
    """The remote attempts at one computation."""

    def __init__(self, store: Store, stage: str, fingerprint: str) -> None:
        self._store = store
        self._stage = stage
        self._fingerprint = fingerprint

    def open(self) -> LaunchRecord | None:
        """The newest attempt without a ledger row: it may be running."""
        newest, _ = self._look()
        return self.read(newest) if newest else None

    def claim(self, make: Callable[[str], LaunchRecord]) -> tuple[LaunchRecord, bool]:
        """The open attempt, else the next one, reserved; and whether it is ours.

        `make` gives the record of an attempt with a name. Who loses the race for it looks again.
        """
        while True:
            newest, last = self._look()
            record = self.read(newest) if newest else None
            if record is not None:
                return record, False
            record = make(f"a{last + 1}")
            if self._store.backend.create(record.path, to_json(record)):
                return record, True

    def join(self, record: LaunchRecord, owner: str) -> None:
        """Note that run `owner` follows the attempt too: it is not left over while one of its runs lives."""
        while owner not in (record.owner, *record.followers):
            try:
                data = self._store.backend.read(record.path)
            except FileNotFoundError:
                return  # committed meanwhile
            record = LaunchRecord.model_validate_json(data)
            joined = record.model_copy(update={"followers": (*record.followers, owner)})
            if self._store.backend.swap(record.path, to_json(joined), data):
                return

    def read(self, attempt: str) -> LaunchRecord | None:
        """One attempt's record; None if it is gone, since the computation was committed."""
        try:
            data = self._store.backend.read(launch_path(self._stage, self._fingerprint, attempt))
        except FileNotFoundError:
            return None
        return LaunchRecord.model_validate_json(data)

    def attempts(self) -> list[str]:
        """The attempts with a record, oldest first."""
        names = self._names(f"launches/{self._stage}/{self._fingerprint}")
        return sorted((name for name in names if _NUMBERED.fullmatch(name)), key=_number)

    def points(self, before: str) -> list[Point]:
        """The time series that attempts before the one called `before` reported."""
        found: list[Point] = []
        for attempt in self.attempts():
            if _number(attempt) < _number(before):
                collector = Collector(lambda *_, **__: None)
                for message in StoreReader(self._store, self._messages(attempt)).read():
                    collector(message)
                found = joined_points(found, collector.all_points)
        return found

    def usage(self, attempt: str) -> dict[str, Any]:
        """What the attempt's own supervisor wrote of it: CPU seconds, peak memory; empty if nothing."""
        try:
            return dict(json.loads(self._store.backend.read(f"{self._messages(attempt)}.exit.json")))
        except (FileNotFoundError, ValueError):
            return {}

    def tidy(self, committed: str) -> None:
        """Remove what the computation no longer needs, once attempt `committed` is its result."""
        attempts = self.attempts()
        if not attempts:
            return
        for attempt in attempts:
            if attempt != committed:
                self._store.discard(self._stage, self._fingerprint, attempt)
        self._store.backend.delete(f"messages/{self._stage}/{self._fingerprint}")
        self._store.backend.delete(resume_prefix(self._stage, self._fingerprint))
        # Last, since a record is what tells that the rest is there.
        self._store.backend.delete(f"launches/{self._stage}/{self._fingerprint}")

    def drop(self, record: LaunchRecord) -> None:
        """Take back a reservation under which nothing was started."""
        self._store.backend.delete(record.path)

    def _messages(self, attempt: str) -> str:
        return messages_prefix(self._stage, self._fingerprint, attempt)

    def _look(self) -> tuple[str, int]:
        """The newest attempt without a row, or '', and the highest number that anything tells of.

        Records are listed last: one that came meanwhile is then seen as open, and not passed over.
        """
        rows = self._names(f"ledger/{self._stage}/{self._fingerprint}")
        files = self._store.attempts(self._stage, self._fingerprint)
        attempts = self.attempts()
        names = {*rows, *files, *attempts}
        last = max((_number(name) for name in names if _NUMBERED.fullmatch(name)), default=0)
        return next((name for name in reversed(attempts) if name not in rows), ""), last

    def _names(self, folder: str) -> set[str]:
        return {name.removesuffix(".json") for name in self._store.backend.children(folder)}


def all_launches(store: Store) -> Iterator[Launches]:
    """The launches of every computation that has a record."""
    for stage in store.backend.children("launches"):
        for fingerprint in store.backend.children(f"launches/{stage}"):
            yield Launches(store, stage, fingerprint)


def _number(attempt: str) -> int:
    return int(attempt.removeprefix("a"))
