"""Attempts that live outside this machine: reserved in the store, followed, and never started twice.

An orchestrator that dies leaves its attempt running; the next one finds the launch record and attaches. Two
at once follow the same attempt, both publish, and the first commit wins. Not covered: where the attempt runs
and how its end is seen; that is a `RemoteLauncher` such as `kubernetes/launcher.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from codellm_dag.launch.attempts import Request
from codellm_dag.launch.bookkeeping import draft_manifest, ledger_row, remote_request, verdict
from codellm_dag.launch.collector import Collector
from codellm_dag.launch.errors import ContactLostError, StageFailedError
from codellm_dag.launch.launcher import Ended, Handle
from codellm_dag.launch.remote import Launches, LaunchRecord
from codellm_dag.launch.sessions import Sessions, device_count, known
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.request import StageRequest
from codellm_dag.store import Attempt, Decision, Hit, Label, Manifest, Store
from codellm_dag.store.paths import attempt_prefix
from codellm_dag.store.records import now

_LONGEST_PAUSE = 300.0


@runtime_checkable
class RemoteLauncher(Protocol):
    """Runs attempts that outlive this process."""

    name: str
    owner: str
    """The Dagster run it works for; empty outside of Dagster."""

    def budget(self, runtime: Runtime) -> Mapping[str, int]:
        """How many attempts and restarts may follow one that ended with a label; none of one not named."""
        ...

    def reserve(self, request: StageRequest) -> LaunchRecord:
        """The record under which the request would run; nothing is started. Raises InvalidRequestError."""
        ...

    def follow(
        self,
        record: LaunchRecord,
        store: Store,
        env: Mapping[str, str],
        handle: Handle,
        tell: Callable[[str], None],
    ) -> Ended:
        """Start the attempt, or attach to it if it is there, and block until it has ended.

        Hands over each message from the first, and tells of what a person may wait for. Raises
        ContactLostError if it can no longer see how the attempt is doing. Whatever it raises, the attempt
        goes on.
        """
        ...

    def end(self, record: LaunchRecord) -> None:
        """Stop what still runs of an attempt whose ledger row is written; nothing happens if it has ended."""
        ...

    def cancel_requested(self) -> bool:
        """Whether an interrupt of this process means that a person gave the work up."""
        ...


class RemoteAttempts:
    """The remote attempts at one computation, as one orchestrator sees them."""

    def __init__(self, request: Request, launcher: RemoteLauncher) -> None:
        self._request = request
        self._launcher = launcher
        self._store = request.store
        self._launches = Launches(request.store, request.stage, request.fingerprint)
        self._budget = dict(launcher.budget(request.asked.runtime))
        self._infra_failures = 0

    def compute(self, decision: Decision, retry_seconds: float) -> Manifest:
        """Attach or attempt until one succeeds or fails for good. Raises StageFailedError."""
        for _ in self._request.check_inputs():
            pass
        while True:
            claimed = self._claim()
            if isinstance(claimed, Manifest):
                return claimed
            try:
                return self._attempt(*claimed, decision)
            except StageFailedError as failure:
                if not self._may_repeat(failure):
                    raise
                self._infra_failures += failure.label == "infra"
                pause = min(retry_seconds * 2 ** max(self._infra_failures - 1, 0), _LONGEST_PAUSE)
                message = f"{failure}; again in {pause:g} s"
                self._request.emitter()("retrying", message=message, label=failure.label)
                time.sleep(pause)

    def settle(self, committed: Manifest) -> None:
        """Close what is open besides the committed attempt, and remove what is no longer needed."""
        for attempt in self._launches.attempts():
            record = self._launches.read(attempt)
            if record is None or self._store.ledger.has(committed.stage, committed.fingerprint, attempt):
                continue
            if attempt == committed.attempt:  # the orchestrator was killed before it wrote the row
                cost = committed.cost[-1].model_dump(exclude={"attempt"})
                self._store.ledger.add(Attempt(**known(record), **cost))
            else:
                self._close(record, "killed", "another attempt's result was committed first")
                self._launcher.end(record)
        self._launches.tidy(committed.attempt)

    def _claim(self) -> tuple[LaunchRecord, bool] | Manifest:
        """The attempt to follow and whether it is new; the result, if someone has committed one."""
        record, ours = self._launches.claim(self._new_record)
        if not ours:
            self._launches.join(record, self._launcher.owner)
            return record, False
        # Whoever commits removes the records afterwards: seeing none may mean that all is done.
        found = self._request.lookup()
        if isinstance(found, Hit):
            self._launches.drop(record)
            return found.manifest
        return record, True

    def _new_record(self, attempt: str) -> LaunchRecord:
        return self._launcher.reserve(remote_request(self._request.asked, attempt, self._store))

    def _may_repeat(self, failure: StageFailedError) -> bool:
        if self._budget.get(failure.label, 0) <= 0:
            return False
        self._budget[failure.label] -= 1
        return True

    def _attempt(self, record: LaunchRecord, ours: bool, decision: Decision) -> Manifest:
        emit = self._request.emitter(record.request.attempt)
        attached = f"attached to {record.group}, which was launched at {record.created:%Y-%m-%d %H:%M:%S} UTC"
        emit("started", message=decision.reasons[0] if ours else attached)
        collector = Collector(emit)
        sessions = Sessions(record, collector, self._interrupted)
        ended = self._follow(record, sessions, lambda text: emit("log", message=text))
        ended = sessions.timed(_with_usage(ended, self._launches.usage(record.request.attempt)))
        label, error = self._verdict(record, collector, ended)
        if label == "ok":
            return self._publish(record, collector, ended, decision)
        found = self._request.lookup()
        if isinstance(found, Hit):  # another orchestrator of the same attempt was faster
            return found.manifest
        raise self._failed(record, collector, ended, label, error)

    def _follow(self, record: LaunchRecord, sessions: Sessions, tell: Callable[[str], None]) -> Ended:
        try:
            with self._request.pipes(sessions) as (env, handle):
                return self._launcher.follow(record, self._store, env, handle, tell)
        except ContactLostError as lost:
            self._budget.clear()  # the attempt goes on; whoever asks next attaches to it
            raise self._request.failure("infra", str(lost), record.request.attempt, None) from lost
        except _PreemptionsSpent:
            error = f"it was interrupted {sessions.count} times, and its budget of pre-emptions is used up"
            self._budget.clear()
            self._close(record, "evicted", error)
            self._launcher.end(record)
            raise self._request.failure("evicted", error, record.request.attempt, None) from None
        except Exception:
            raise
        except BaseException:  # an interrupt: Ctrl-C, a cancelled run, or an orchestrator that is moved
            if self._launcher.cancel_requested():
                self._close(record, "killed", "cancelled")
                self._launcher.end(record)
            else:
                tell(f"interrupted; {record.group} is left running, and the next run attaches to it")
            raise

    def _interrupted(self, row: Attempt) -> None:
        """The cluster ended the stage's process and started another in the same attempt."""
        self._store.ledger.add(row)
        self._request.emitter(row.attempt)("retrying", message=str(row.error), label=row.label)
        left = self._budget["evicted"] = self._budget.get("evicted", 0) - 1
        if left < 0:
            raise _PreemptionsSpent

    def _verdict(self, record: LaunchRecord, collector: Collector, ended: Ended) -> tuple[Label, str]:
        label, error = verdict(collector, ended)
        if label != "ok":
            return label, error
        if not collector.outputs:
            return "error", "it closed its session but named no result; is its image older than this code?"
        there = self._store.backend.sizes(_files(record.request))
        for output in collector.outputs:
            if there.get(output.path) != output.bytes:
                return "infra", f"its output {output.path} is not in the store, or not whole"
        return "ok", ""

    def _publish(
        self, record: LaunchRecord, collector: Collector, ended: Ended, decision: Decision
    ) -> Manifest:
        asked, attempt = self._request.asked, record.request.attempt
        row = self._row(record, "ok", None, ended, collector)
        rows = [*self._store.ledger.of(self._request.stage, self._request.fingerprint), row]
        earlier = self._launches.points(before=attempt)
        draft = draft_manifest(asked, attempt, collector, decision, rows, earlier)
        manifest, _ = self._store.publish(draft, None, collector.outputs)
        self._store.ledger.add(row)
        self._launcher.end(record)
        self.settle(manifest)
        self._request.emitter(attempt)("finished", label="ok", message=f"{len(manifest.outputs)} files")
        return manifest

    def _failed(
        self, record: LaunchRecord, collector: Collector, ended: Ended, label: Label, error: str
    ) -> StageFailedError:
        """Write the row, then stop what is left; the exception to raise."""
        attempt = record.request.attempt
        row = self._add(self._row(record, label, error, ended, collector))
        self._launcher.end(record)
        self._store.discard(row.stage, row.fingerprint, attempt)
        self._request.emitter(attempt)("failed", label=row.label, message=row.error or "")
        return self._request.failure(row.label, row.error or "", attempt, ended)

    def _row(
        self, record: LaunchRecord, label: Label, error: str | None, ended: Ended, collector: Collector
    ) -> Attempt:
        attempt = record.request.attempt
        row = ledger_row(self._request.asked, attempt, label, error, ended.start, ended, collector)
        seconds = (row.end - row.start).total_seconds() * device_count(record)
        return row.model_copy(update={"device_seconds": seconds})

    def _close(self, record: LaunchRecord, label: Label, error: str) -> None:
        """Write the row of an attempt that is ended by us, so that nobody attaches to it any more."""
        end = now()
        self._add(Attempt(**known(record), label=label, error=error, start=record.created, end=end))

    def _add(self, row: Attempt) -> Attempt:
        """Add a row; what stands in the ledger now, since another orchestrator may have been first."""
        self._store.ledger.add(row)
        rows = self._store.ledger.of(row.stage, row.fingerprint)
        return next((item for item in rows if item.attempt == row.attempt), row)


class _PreemptionsSpent(Exception):
    """The attempt was interrupted once too often."""


def _files(request: StageRequest) -> str:
    return attempt_prefix(request.stage, request.fingerprint, request.attempt)


def _with_usage(ended: Ended, usage: Mapping[str, Any]) -> Ended:
    """What the stage's own supervisor measured, where the launcher does not know better."""
    return replace(
        ended,
        cpu_seconds=usage.get("cpu_seconds", ended.cpu_seconds),
        peak_memory_bytes=usage.get("peak_memory_bytes", ended.peak_memory_bytes),
        out_of_memory=ended.out_of_memory or bool(usage.get("out_of_memory")),
    )
