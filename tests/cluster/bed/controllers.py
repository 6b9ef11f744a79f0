"""One thread does what controllers do: hears of every change, collects garbage, syncs Jobs, starts pods."""

from __future__ import annotations

import heapq
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable

from tests.cluster.bed.garbage import GarbageCollector
from tests.cluster.bed.jobs import JobController
from tests.cluster.bed.resources import JOBS, PODS
from tests.cluster.bed.storage import Entry, Key, Storage, key_of


class Controllers:
    """`on_pod` is told of every change of a pod. Exceptions are kept in `problems`; a test looks at them."""

    def __init__(
        self,
        storage: Storage,
        collector: GarbageCollector,
        jobs: Callable[[Callable[[Key, float], None]], JobController],
        on_pod: Callable[[Entry], None],
    ) -> None:
        self.problems: list[str] = []
        self._collector = collector
        self._jobs = jobs(self._again)
        self._on_pod = on_pod
        self._entries: deque[Entry] = deque()
        self._later: list[tuple[float, Key]] = []
        self._wake = threading.Condition()
        self._stopped = False
        storage.listeners.append(self._hear)
        self._thread = threading.Thread(target=self._loop, daemon=True, name="controllers")
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        self._thread.join()

    def _hear(self, entry: Entry) -> None:
        with self._wake:
            self._entries.append(entry)
            self._wake.notify_all()

    def _again(self, key: Key, seconds: float) -> None:
        with self._wake:
            heapq.heappush(self._later, (time.monotonic() + seconds, key))

    def _loop(self) -> None:
        while True:
            entries, due = self._next()
            if self._stopped:
                return
            keys = dict.fromkeys(due)
            for entry in entries:
                try:
                    keys.update(dict.fromkeys(self._look(entry)))
                except Exception:
                    self.problems.append(traceback.format_exc())
            for key in keys:
                try:
                    self._jobs.sync(key)
                except Exception:
                    self.problems.append(traceback.format_exc())

    def _next(self) -> tuple[list[Entry], list[Key]]:
        """What has changed and which Jobs are due, as soon as there is any."""
        with self._wake:
            while not self._stopped:
                now, due = time.monotonic(), []
                while self._later and self._later[0][0] <= now:
                    due.append(heapq.heappop(self._later)[1])
                entries = list(self._entries)
                self._entries.clear()
                if entries or due:
                    return entries, due
                self._wake.wait(self._later[0][0] - now if self._later else None)
        return [], []

    def _look(self, entry: Entry) -> list[Key]:
        """React to one change; the Jobs that it concerns."""
        self._collector.look(entry)
        key = key_of(entry.item)
        if entry.resource == JOBS:
            if entry.change != "DELETED":
                return [key]
            for _, pod in self._jobs.pods_of(entry.item):
                self._jobs.release(pod)
        if entry.resource == PODS:
            self._on_pod(entry)
            owners = entry.item["metadata"].get("ownerReferences") or ()
            if entry.item["metadata"].get("deletionTimestamp") or not owners:
                self._jobs.release(key)
            return [(key[0], owner["name"]) for owner in owners if owner["kind"] == "Job"]
        return []
