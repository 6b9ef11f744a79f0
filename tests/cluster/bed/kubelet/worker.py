"""One pod's life: a thread that plays the pod's script and answers to deletion, eviction and lost nodes."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.cluster.bed import deletion
from tests.cluster.bed.kubelet import pod_status
from tests.cluster.bed.resources import PODS, Object
from tests.cluster.bed.storage import Key

if TYPE_CHECKING:
    from tests.cluster.bed.kubelet.kubelet import Kubelet

Step = Callable[["Worker"], None]
Script = Sequence[Step]


class Stopped(Exception):
    """The pod is to end now."""


@dataclass(frozen=True)
class Ending:
    """Why a pod is stopped from outside. Deleted pods are taken away after their end, evicted ones stay."""

    reason: str = ""
    message: str = ""
    condition: Object | None = None
    grace: float | None = None


class Worker:
    """What a script's steps work with. `attempt` counts the pods of the same Job and index, from 1."""

    def __init__(self, kubelet: Kubelet, pod: Object, attempt: int, script: Script) -> None:
        self.kubelet = kubelet
        self._first = pod
        self.attempt = attempt
        self.key: Key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
        self.uid: str = pod["metadata"]["uid"]
        self.address = kubelet.new_address()
        self.stopping = threading.Event()
        self.lost = self.ended = False
        self._ending: Ending | None = None
        self._script = script
        self.kill: Callable[[float], None] | None = None
        self._thread = threading.Thread(target=self._live, daemon=True, name=f"pod {self.key[1]}")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the end."""
        self._thread.join(seconds)

    @property
    def pod(self) -> Object:
        """The pod as it is stored now. Raises Stopped if it is gone."""
        pod = self.kubelet.storage.get(PODS, self.key)
        if pod is None or pod["metadata"]["uid"] != self.uid:
            raise Stopped
        return pod

    @property
    def pod_or_last(self) -> Object:
        """The pod as it is stored, or as it was when it began."""
        pod = self.kubelet.storage.get(PODS, self.key)
        return pod if pod is not None and pod["metadata"]["uid"] == self.uid else self._first

    def update(self, edit: Callable[[Object], Object]) -> None:
        """Change the stored pod."""
        self.kubelet.storage.update(
            PODS, self.key, lambda pod: edit(pod) if pod["metadata"]["uid"] == self.uid else None
        )

    def event(self, reason: str, message: str, kind: Literal["Normal", "Warning"] = "Normal") -> None:
        """Record an event about the pod."""
        pod = self.kubelet.storage.get(PODS, self.key)
        if pod is not None:
            self.kubelet.recorder.record(pod, reason, message, kind)

    def sleep(self, seconds: float | None) -> None:
        """Wait (None: for good). Raises Stopped if the pod is to end."""
        if self.stopping.wait(seconds):
            raise Stopped

    def stop(self, ending: Ending | None = None) -> None:
        """End the pod: because it is deleted, or as `ending` says."""
        if self.lost:
            return
        self._ending = self._ending or ending
        self.stopping.set()

    def lose(self, *, running: bool = False) -> None:
        """The node is cut off: nothing it does is seen any more, deletion is not answered.

        With `running` its containers go on, unseen, until the bed ends: what a cluster fears most.
        """
        self.lost = True
        if self.kill is not None and not running:
            self.kill(0)
        self.stopping.set()

    def finish(self, code: int, reason: str = "", message: str = "") -> None:
        """All containers ended with `code`, and with them the pod."""
        self.update(lambda pod: pod_status.terminated(pod, code, reason, message))
        self.update(lambda pod: pod_status.ended(pod, "Failed" if code else "Succeeded"))

    def _live(self) -> None:
        try:
            for step in self._script:
                if self.stopping.is_set():
                    break
                step(self)
            if self.pod["status"].get("phase") in ("Succeeded", "Failed"):
                self.ended = True
                self.kubelet.tidy(self)
                return
            self.stopping.wait()
        except Stopped:
            pass
        except Exception:
            self.kubelet.problems.append(f"pod {self.key[1]}: {traceback.format_exc()}")
            self.stopping.wait()
        if not self.lost:
            self._end()

    def _end(self) -> None:
        """End containers within the grace, give the pod its last status, take it away if it is deleted."""
        pod = self.kubelet.storage.get(PODS, self.key)
        if pod is None or pod["metadata"]["uid"] != self.uid:
            if self.kill is not None:
                self.kill(0)
            return
        ending = self._ending or Ending()
        if self.kill is not None:
            self.event("Killing", "Stopping container")
            own = pod["metadata"].get("deletionGracePeriodSeconds")
            self.kill(ending.grace if ending.grace is not None else 30.0 if own is None else float(own))
        self.update(lambda pod: self._last_status(pod, ending))
        if self._ending is None or pod["metadata"].get("deletionTimestamp"):
            self.take_away()
        self.ended = True
        self.kubelet.tidy(self)

    def _last_status(self, pod: Object, ending: Ending) -> Object:
        if ending.condition is not None:
            pod = pod_status.with_condition(pod, ending.condition)
        if pod["status"].get("phase") in ("Succeeded", "Failed"):
            return pod
        unknown = "The container could not be located when the pod was deleted."
        pod = pod_status.terminated(pod, 137, "ContainerStatusUnknown", unknown)
        codes = [
            entry["state"]["terminated"]["exitCode"] for entry in pod["status"].get("containerStatuses", ())
        ]
        well = bool(codes) and not any(codes) and not ending.reason
        return pod_status.ended(pod, "Succeeded" if well else "Failed", ending.reason, ending.message)

    def take_away(self) -> None:
        """The last word of the kubelet on a deleted pod: the object may go."""
        pod = self.kubelet.storage.get(PODS, self.key)
        if pod is not None and pod["metadata"]["uid"] == self.uid:
            deletion.delete(self.kubelet.storage, PODS, self.key, {"gracePeriodSeconds": 0})
