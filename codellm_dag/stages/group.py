"""The group of processes that torchrun started for one stage, and what they tell each other beside training.

torchrun gives each process its rank in the environment and keeps a small key-value store (``MASTER_ADDR``,
``MASTER_PORT``). There a rank that fails leaves its reason for rank 0, which alone speaks to the
orchestrator, and rank 0 leaves word that it has ended. PyTorch is imported only where there is a group.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from codellm_dag.stages.failures import is_lost_group, label_of

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE")
_LOOK = 0.25  # seconds between two looks at the store
_PATIENCE = (
    5.0  # seconds in which a failed rank waits to be heard, and rank 0 for a better reason than its own
)
_FAILED, _LOST, _HEARD, _ENDED = "failed", "lost", "heard", "ended"


@dataclass(frozen=True)
class WorkerGroup:
    """This process' place in its group; by default a group of one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> WorkerGroup:
        """The group that torchrun describes, else a group of one."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        rank, size, local_rank = (int(os.environ[name]) for name in _VARIABLES[:3])
        return cls(rank, size, local_rank)

    def node_folder(self, purpose: str) -> Path:
        """A folder that this node's processes share; the one with local rank 0 creates and removes it."""
        if self.size == 1:
            return Path(tempfile.mkdtemp(prefix="codellm-"))
        run = [os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")]
        text = "/".join([*run, str(os.getppid()), purpose])
        return Path(tempfile.gettempdir()) / f"codellm-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    @staticmethod
    def leave() -> None:
        """Take the group out of the environment, for a stage that rank 0 runs alone."""
        for name in _VARIABLES:
            os.environ.pop(name, None)


ALONE = WorkerGroup()


class Failure(NamedTuple):
    """Why an attempt failed: the ledger's label, and a sentence."""

    label: str
    error: str

    @classmethod
    def of(cls, error: BaseException, who: str = "") -> Failure:
        """The failure that an exception is."""
        return cls(label_of(error), f"{who}{type(error).__name__}: {error}")


class Board:
    """Where the ranks of a group leave word for each other."""

    def __init__(self, group: WorkerGroup) -> None:
        self._group = group
        self._store = _connect()

    def tell(self, error: BaseException) -> None:
        """Leave `error` for rank 0, and wait until it has been heard, but not for long.

        That the group is lost is told apart: it is what all others see when one of them has failed.
        """
        failure = Failure.of(error, f"rank {self._group.rank}: ")
        try:
            self._store.compare_set(_LOST if is_lost_group(error) else _FAILED, "", json.dumps(failure))
            self._until(_HEARD, _PATIENCE)
        except RuntimeError as gone:
            print(f"rank {self._group.rank} cannot reach rank 0: {gone}", flush=True)

    def reason(self, own: BaseException) -> Failure:
        """Why rank 0 failed with exception `own`: what another rank told, if `own` only says it is gone."""
        failure = Failure.of(own)
        if is_lost_group(own):
            try:
                if self._until(_FAILED, _PATIENCE):
                    failure = self._read(_FAILED)
            except RuntimeError:
                pass  # the store is gone with the rest
        return failure

    def watch(self, abort: Callable[[Failure], None]) -> None:
        """Call `abort`, in a thread, when another rank fails: this one may wait for it in vain."""
        threading.Thread(target=self._watch, args=(abort,), name="ranks", daemon=True).start()

    def end(self) -> None:
        """Rank 0 has told how the stage ended."""
        for key in (_HEARD, _ENDED):
            try:
                self._store.set(key, "yes")
            except RuntimeError:
                return

    def has_ended(self) -> bool:
        """Whether rank 0 has told how the stage ended."""
        return self._store.check([_ENDED])

    def wait_for_end(self) -> bool:
        """Wait until rank 0 has told; False if it has gone without."""
        try:
            return self._until(_ENDED, None)
        except RuntimeError as gone:
            print(f"rank {self._group.rank} cannot reach rank 0: {gone}", flush=True)
            return False

    def _watch(self, abort: Callable[[Failure], None]) -> None:
        store = _connect()
        lost_at: float | None = None
        while True:
            try:
                if store.check([_FAILED]):
                    return abort(self._read(_FAILED))
                if store.check([_LOST]):
                    lost_at = lost_at or time.monotonic()
                    if time.monotonic() - lost_at > _PATIENCE:
                        return abort(self._read(_LOST))
            except RuntimeError:
                return None  # torchrun is ending the group
            time.sleep(_LOOK)

    def _until(self, key: str, seconds: float | None) -> bool:
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self._store.check([key]):
            if deadline is not None and time.monotonic() > deadline:
                return False
            time.sleep(_LOOK)
        return True

    def _read(self, key: str) -> Failure:
        return Failure(*json.loads(self._store.get(key)))


def _connect() -> Any:
    """A client of torchrun's store, with names of our own."""
    from torch.distributed import PrefixStore, TCPStore  # pyright: ignore[reportPrivateImportUsage]

    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise RuntimeError("torchrun shares no store; start the group with --rdzv-backend c10d")
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    return PrefixStore(f"codellm-dag/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
