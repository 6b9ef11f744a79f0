"""Steps for scripted pods that say and store what a real stage would, through the store they were given."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from typing import Any

from codellm_dag.launch import LaunchRecord
from codellm_dag.launch.kubernetes import names
from codellm_dag.stages.messages import StoreWriter
from codellm_dag.store import Store
from codellm_dag.store.paths import attempt_prefix
from tests.cluster.bed import steps
from tests.cluster.bed.kubelet.worker import Step, Worker

RESULT = b"the result\n"


class ScriptedStage:
    """Each method gives a step; together they are a stage's life."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def opens(self) -> Step:
        """The session begins."""
        return self._says(_message("opened", {}))

    def progress(self, done: int = 1) -> Step:
        """The stage is so far."""
        values = {"done": done, "total": 10, "unit": "steps", "note": "", "rate": None}
        return self._says(_event("progress", **values))

    def point(self, step: int) -> Step:
        """A point of a time series."""
        return self._says(_event("points", points=[[step, {"loss": 1.0 / (step + 1)}]]))

    def hangs(self) -> Step:
        """The stage does nothing more, while its watcher goes on to say that its process is alive."""
        since = time.time()

        def step(worker: Worker) -> None:
            for _ in itertools.count():
                self._write(worker, _event("heartbeat", advanced=since))
                worker.sleep(0.1)

        return steps.call(step)

    def works(self) -> Step:
        """The stage makes progress for ever."""

        def step(worker: Worker) -> None:
            for done in itertools.count():
                values = {"done": done, "total": 10**9, "unit": "steps", "note": "", "rate": None}
                self._write(worker, _event("progress", **values))
                worker.sleep(0.05)

        return steps.call(step)

    def stores(self, *, file: bool = True) -> Step:
        """The stage uploads its result and names it; without `file` it only names it."""

        def step(worker: Worker) -> None:
            request = self._record(worker).request
            if file:
                prefix = attempt_prefix(request.stage, request.fingerprint, request.attempt)
                self._store.backend.put(f"{prefix}/words.txt", RESULT)
            output = {"path": "words.txt", "bytes": len(RESULT), "sha256": hashlib.sha256(RESULT).hexdigest()}
            self._write(worker, _event("outputs", outputs=[output]))

        return steps.call(step)

    def fails(self, label: str, error: str) -> Step:
        """The stage says how it failed."""
        return self._says(_event("failed", label=label, error=error))

    def closes(self) -> Step:
        """The session ends."""
        return self._says(_message("closed", {}))

    def succeeds(self, first: int = 0) -> tuple[Step, ...]:
        """All of a stage that ends well, from the first session on."""
        return (
            *steps.BEGIN,
            self.opens(),
            self.point(first),
            self.point(first + 1),
            self.stores(),
            self.closes(),
            steps.exit(0),
        )

    def _says(self, line: dict[str, Any]) -> Step:
        return steps.call(lambda worker: self._write(worker, line))

    def _write(self, worker: Worker, line: dict[str, Any]) -> None:
        if line["method"] == "report_custom_message":
            line["params"]["payload"]["at"] = time.time()
        folder = self._record(worker).request.messages
        StoreWriter(self._store, folder).write((json.dumps(line) + "\n").encode())

    def _record(self, worker: Worker) -> LaunchRecord:
        place = worker.pod["metadata"]["annotations"][names.RECORD]
        return LaunchRecord.model_validate_json(self._store.backend.read(place))


def _message(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"__dagster_pipes_version": "0.1", "method": method, "params": params}


def _event(event: str, **values: Any) -> dict[str, Any]:
    return _message("report_custom_message", {"payload": {"event": event, **values}})
