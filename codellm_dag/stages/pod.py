"""What a pod's watcher does beside the stage: the store is all that the pod shares with its orchestrator.

The stage itself sees folders of this machine only. Its messages go to a file, from there to the store
(`relay.py`); its resume_dir is filled from the store before it begins and copied back while it runs
(`mirror.py`). After each copy comes an event ``{"event": "saved", "at": …, "entries": [names]}``. At the end
the last checkpoint goes first, then how the process ended (``<messages>.exit.json``), then the closing
message: who reads that may start another attempt at once. A pod that finds its work taken over, since it was
thought dead, says no more.

In a group the watcher of rank 0 does all this, and the first watcher on each other node fetches resume_dir.
A watcher whose rank is killed leaves word for rank 0's in ``<messages>.ranks/``.
"""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable

from codellm_dag.stages.group import WorkerGroup
from codellm_dag.stages.messages import StoreWriter, custom_message
from codellm_dag.stages.mirror import Mirror
from codellm_dag.stages.protocol import Stopped
from codellm_dag.stages.relay import HEARTBEAT, Relay
from codellm_dag.stages.request import StageRequest
from codellm_dag.stages.supervision import Usage
from codellm_dag.store.errors import StoreError
from codellm_dag.store.store import Store

_PATIENCE = 60.0  # seconds in which a store that fails is asked again at the end
_FETCH_PATIENCE = 300.0  # and at the start
_READY = "ready.json"
_ASKED = (None, signal.SIGTERM, signal.SIGINT)
"""No signal, or one that asked the process to end, as the rest of a group is when one rank has failed."""


class Pod:
    """The companion of one stage process in a pod; `request` is what that process runs."""

    def __init__(self, request: StageRequest, group: WorkerGroup, heartbeat: float = HEARTBEAT) -> None:
        self._backend = Store(request.store or "").backend
        self._messages = request.messages
        self._ranks = f"{request.messages}.ranks"  # how killed ranks ended
        self._group = group
        self._folder = group.node_folder(f"{request.messages}/{request.attempt}")
        self._ready = self._folder / _READY
        self._fetched = threading.Event()
        self._resume = None
        resume_dir = self._folder / "resume"
        if group.local_rank == 0:
            resume_dir.mkdir(parents=True, exist_ok=True)
            if request.resume:
                self._resume = Mirror(self._backend, request.resume, resume_dir, self._saved)
        self._relay = None
        if group.rank == 0:
            writer = StoreWriter(Store(request.store or ""), request.messages)
            self._relay = Relay(self._folder / "messages.jsonl", writer, heartbeat)
        self.request = request.model_copy(
            update={"messages": str(self._folder / "messages.jsonl"), "resume_dir": str(resume_dir)}
        )

    def wait_until_ready(self, is_over: Callable[[], bool]) -> list[str]:
        """In the stage's process: wait until resume_dir is filled; lines about what was found.

        Raises StoreError if the store could not be read, Stopped if the stage `is_over` meanwhile.
        """
        while not self._ready.exists():
            if is_over():  # then the folder may be gone already
                raise Stopped("the stage ended before this rank began")
            time.sleep(0.05)
        found = json.loads(self._ready.read_text())
        if found["error"]:
            raise StoreError(found["error"])
        return found["lines"]

    def start(self) -> None:
        """Begin to carry messages and to fetch what there is to resume from."""
        if self._relay is not None:
            self._relay.start()
        if self._group.local_rank == 0:
            threading.Thread(target=self._fetch, name="fetch", daemon=True).start()

    def finish(self, usage: Usage) -> None:
        """Bring the last checkpoint, the process' end and the last messages to the store."""
        if self._relay is not None:
            self._save_last(usage)
            if self._resume is not None and self._resume.superseded:
                print("the end is not told: a later attempt has taken over", flush=True)
                self._relay.stop()
            else:
                self._backend.put(f"{self._messages}.exit.json", usage.to_json())
                self._relay.finish(_PATIENCE, self._killed_rank() if usage.exit_code else b"")
        elif usage.signal not in _ASKED:
            self._backend.put(f"{self._ranks}/{self._group.rank}.json", usage.to_json())
        if self._group.local_rank == 0:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _killed_rank(self) -> bytes:
        """Why the group failed, if another rank was killed and could not say so itself."""
        if self._group.size > 1:
            for name in self._backend.children(self._ranks):
                ended = json.loads(self._backend.read(f"{self._ranks}/{name}"))
                error = f"rank {name.removesuffix('.json')} was ended by signal {ended['signal']}"
                if ended["out_of_memory"]:
                    return _failed("oom", f"{error}, for want of memory")
                return _failed("infra", error)
        return b""

    def _save_last(self, usage: Usage) -> None:
        """Copy the last checkpoint, unless the result is complete and partial work of no use any more."""
        if self._resume is None or not self._fetched.is_set():
            return
        try:
            self._resume.finish(_PATIENCE, keep=usage.exit_code != 0)
        except (StoreError, OSError) as error:
            print(f"the last checkpoint could not be copied to the store: {error}", flush=True)

    def _fetch(self) -> None:
        """Fill resume_dir, begin to copy it back, and say that the stage may begin."""
        found: dict[str, object] = {"error": "", "lines": []}
        try:
            if self._group.rank == 0 and self._group.size > 1:
                self._backend.delete(self._ranks)  # of an earlier start of this pod
            if self._resume is not None:
                found["lines"] = self._fetch_patiently(self._resume)
                if self._group.rank == 0:
                    self._resume.start()
                    self._fetched.set()
        except (StoreError, OSError, ValueError) as failure:
            found["error"] = f"what there is to resume from could not be read: {failure}"
        part = self._ready.with_suffix(".part")
        part.write_text(json.dumps(found))
        part.rename(self._ready)

    def _fetch_patiently(self, resume: Mirror) -> list[str]:
        deadline = time.monotonic() + _FETCH_PATIENCE
        while True:
            try:
                return resume.fetch(take_over=self._group.rank == 0)
            except (StoreError, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)

    def _saved(self, entries: list[str]) -> None:
        if self._relay is not None:
            self._relay.say(event="saved", at=time.time(), entries=entries)


def _failed(label: str, error: str) -> bytes:
    return custom_message({"event": "failed", "label": label, "error": error})
