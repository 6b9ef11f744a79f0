"""Attempts on this machine: they die with the orchestrator, under a lock that one process holds at a time."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from codellm_dag.launch.attempts import Request
from codellm_dag.launch.bookkeeping import (
    Places,
    draft_manifest,
    keep_log,
    ledger_row,
    stage_request,
    verdict,
)
from codellm_dag.launch.collector import Collector, load_points
from codellm_dag.launch.errors import StageFailedError
from codellm_dag.launch.launcher import Ended, Job, Launcher
from codellm_dag.launch.work import Work
from codellm_dag.store import Decision, InvalidOutputError, Label, Manifest, StoreError
from codellm_dag.store.records import now


class LocalAttempts:
    """Attempt until one succeeds or fails for good; use it under the lock of `work`."""

    def __init__(self, request: Request, launcher: Launcher, work: Work) -> None:
        self._request = request
        self._launcher = launcher
        self._work = work
        self._store = request.store

    def compute(self, decision: Decision, infra_retries: int, retry_seconds: float) -> Manifest:
        """The committed manifest. Raises StageFailedError, InvalidRequestError."""
        inputs = {slot: self._store.local_path(item) for slot, item in self._request.check_inputs()}
        for left in range(infra_retries, -1, -1):
            try:
                return self._attempt(decision, inputs)
            except StageFailedError as failure:
                if failure.label != "infra" or not left:
                    raise
                pause = retry_seconds * 2 ** (infra_retries - left)
                message = f"{failure}; again in {pause:g} s"
                self._request.emitter()("retrying", message=message, label="infra")
                time.sleep(pause)
        raise ValueError(f"infra_retries = {infra_retries}; it must be 0 or more")

    def _attempt(self, decision: Decision, inputs: Mapping[str, Path]) -> Manifest:
        attempt, out = self._store.new_attempt(self._request.stage, self._request.fingerprint)
        workspace = self._work.workspace(attempt)
        places = Places(attempt, out, workspace, self._work.resume_dir, inputs)
        request = stage_request(self._request.asked, places)
        (workspace / "request.json").write_text(request.model_dump_json(indent=1))
        emit = self._request.emitter(attempt)
        collector = Collector(emit)
        emit("started", message=decision.reasons[0])
        start = now()
        ended: Ended | None = None
        label: Label = "killed"  # what stands if an interrupt takes us out of here
        error = "interrupted"
        try:
            try:
                with self._request.pipes(collector) as (env, handle):
                    ended = self._launcher.run(Job(request, self._store, workspace, env), handle)
                label, error = verdict(collector, ended)
                if label == "ok":
                    return self._publish(places, collector, ended, decision)
            except (StoreError, OSError) as failure:
                label, error = "infra", str(failure)
            except InvalidOutputError as failure:
                label, error = "error", str(failure)
            except Exception as failure:
                label, error = "error", f"the orchestrator failed: {failure!r}"
                raise
            raise self._request.failure(label, error, attempt, ended)
        finally:
            if label != "ok":
                row = ledger_row(self._request.asked, attempt, label, error, start, ended, collector)
                self._store.ledger.add(row)
                self._work.keep_points(workspace)
                self._store.discard(self._request.stage, self._request.fingerprint, attempt)
                emit("failed", label=label, message=error)
            shutil.rmtree(workspace, ignore_errors=True)

    def _publish(self, places: Places, collector: Collector, ended: Ended, decision: Decision) -> Manifest:
        asked = self._request.asked
        keep_log(ended.log, places.out)
        row = ledger_row(asked, places.attempt, "ok", None, ended.start, ended, collector)
        rows = [*self._store.ledger.of(self._request.stage, self._request.fingerprint), row]
        earlier = load_points(self._work.points)
        draft = draft_manifest(asked, places.attempt, collector, decision, rows, earlier)
        manifest, _ = self._store.publish(draft, places.out, collector.outputs)
        self._store.ledger.add(row)
        self._request.emitter(places.attempt)(
            "finished", label="ok", message=f"{len(manifest.outputs)} files"
        )
        return manifest
