"""Unfinished work of one fingerprint on this machine: its lock, its folder, and what dead attempts left.

``<work root>/work/<fingerprint>/`` holds ``resume/`` (a stage's partial work), ``points.jsonl`` and
``attempts/<attempt>/`` (request, log, messages); it goes with the commit. The work root is the store's own
folder, or for a store on S3 a folder of the cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from codellm_dag.launch.collector import Collector, save_points
from codellm_dag.launch.remote import Launches
from codellm_dag.stages.messages import FileReader
from codellm_dag.stages.request import StageRequest
from codellm_dag.store import Attempt, Manifest, Store

_POLL = 0.1


class Work:
    """The folder of a fingerprint's unfinished work; use it under `lock`."""

    def __init__(self, store: Store, stage: str, fingerprint: str) -> None:
        self._store = store
        self._stage = stage
        self._fingerprint = fingerprint
        self.folder = store.work_root / "work" / fingerprint
        self.resume_dir = self.folder / "resume"
        self.points = self.folder / "points.jsonl"

    def workspace(self, attempt: str) -> Path:
        """The folder of one attempt's request, log and messages; created if need be."""
        folder = self.folder / "attempts" / attempt
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def lock(self, on_wait: Callable[[], None] | None) -> Iterator[None]:
        """Hold this fingerprint on this machine (on a disk shared by several, on all of them).

        `on_wait` is called once if another process holds it; None raises BlockingIOError then. The kernel
        frees the lock when its holder dies.
        """
        path = self._store.work_root / "locks" / f"{self._fingerprint}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _acquire(path, on_wait)
        except BlockingIOError:
            raise
        except OSError:
            self._store.check()  # says in one sentence what is wrong with the place, if that is it
            raise
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            os.close(descriptor)

    def clean_up_dead(self, committed: Manifest | None) -> None:
        """Write the ledger rows of attempts whose orchestrator was killed, and remove what they left.

        Only under the lock, when every attempt but the `committed` one is known to be dead.
        """
        workspaces = self._workspaces()
        for workspace in workspaces:
            self._bury(workspace, committed)
        dead = {workspace.name for workspace in workspaces}
        if self._store.is_local:  # elsewhere another machine may be uploading an attempt of its own
            remote = Launches(self._store, self._stage, self._fingerprint).attempts()
            dead.update(set(self._store.attempts(self._stage, self._fingerprint)) - set(remote))
        for attempt in dead - {committed.attempt if committed else ""}:
            self._store.discard(self._stage, self._fingerprint, attempt)

    def tidy(self, committed: Manifest) -> None:
        """Finish what a killed orchestrator left undone after its commit; skipped if someone is at work."""
        with contextlib.suppress(BlockingIOError), self.lock(None):
            self.clean_up_dead(committed)
            self.remove()

    def remove(self) -> None:
        """Remove everything, once the result is committed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _workspaces(self) -> list[Path]:
        folder = self.folder / "attempts"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def _bury(self, workspace: Path, committed: Manifest | None) -> None:
        with contextlib.suppress(OSError, ValueError):
            request = StageRequest.model_validate_json((workspace / "request.json").read_bytes())
            if not self._store.ledger.has(request.stage, request.fingerprint, request.attempt):
                collector = _collected(workspace)
                self._store.ledger.add(_row_of_dead(request, workspace, committed, collector))
                save_points(self.points, collector.all_points)
        shutil.rmtree(workspace, ignore_errors=True)

    def keep_points(self, workspace: Path) -> None:
        """Save the time series that an unfinished attempt reported."""
        save_points(self.points, _collected(workspace).all_points)


def bury_dead(store: Store) -> None:
    """Write the ledger rows of all attempts on this machine whose orchestrator was killed.

    Without it a killed attempt whose recipe is then changed would never be told of. Their partial files go,
    what can be resumed stays. Work that someone holds is left alone.
    """
    folder = store.work_root / "work"
    for attempts in sorted(folder.glob("*/attempts")):
        fingerprint = attempts.parent.name
        stages = {stage for stage in map(_stage_of, attempts.iterdir()) if stage}
        for stage in stages:
            work = Work(store, stage, fingerprint)
            with contextlib.suppress(BlockingIOError), work.lock(None):
                work.clean_up_dead(store.lookup(stage, fingerprint).manifest)


def _stage_of(workspace: Path) -> str | None:
    try:
        return StageRequest.model_validate_json((workspace / "request.json").read_bytes()).stage
    except (OSError, ValueError):
        return None


def _acquire(path: Path, on_wait: Callable[[], None] | None) -> int:
    told = False
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            if on_wait is None:
                raise
            if not told:
                on_wait()
                told = True
            time.sleep(_POLL)
            continue
        if _is_same_file(descriptor, path):
            return descriptor
        os.close(descriptor)  # its holder removed it while we waited; the name now means another file


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def _collected(workspace: Path) -> Collector:
    """What an attempt has told."""
    collector = Collector(lambda *_, **__: None)
    for message in FileReader(workspace / "messages.jsonl").read():
        collector(message)
    return collector


def _row_of_dead(
    request: StageRequest, workspace: Path, committed: Manifest | None, collector: Collector
) -> Attempt:
    """The ledger row that the killed orchestrator could not write."""
    known = {
        "attempt": request.attempt,
        "stage": request.stage,
        "asset": request.asset,
        "partition": request.partition,
        "trial": request.trial,
        "fingerprint": request.fingerprint,
        "hosts": [os.uname().nodename],
        "recipe": request.recipe,
    }
    if committed is not None and committed.attempt == request.attempt:
        return Attempt(**known, **committed.cost[-1].model_dump(exclude={"attempt"}))
    start = (workspace / "request.json").stat().st_mtime
    end = max(entry.stat().st_mtime for entry in workspace.iterdir())
    return Attempt(
        **known,
        label="killed",
        error="the orchestrator was killed",
        start=datetime.fromtimestamp(start, UTC),
        end=datetime.fromtimestamp(end, UTC),
        devices=["cpu"],
        device_seconds=end - start,
        **collector.work,
    )
