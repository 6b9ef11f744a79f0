"""The kubelet of all nodes: a worker for each pod, its script, and what clusters do to pods."""

from __future__ import annotations

import fnmatch
import itertools
import threading
from collections import Counter
from dataclasses import dataclass

from tests.cluster.bed import deletion
from tests.cluster.bed.conditions import disruption
from tests.cluster.bed.errors import ApiError
from tests.cluster.bed.events import Recorder
from tests.cluster.bed.jobs import INDEX
from tests.cluster.bed.kubelet import pod_status
from tests.cluster.bed.kubelet.logs import Logs
from tests.cluster.bed.kubelet.worker import Ending, Script, Worker
from tests.cluster.bed.resources import PODS, Object
from tests.cluster.bed.storage import Entry, Key, Storage


@dataclass(frozen=True)
class Rule:
    """Which pods play a script: by Job name (of a bare pod: its own), index and attempt; None is any."""

    pattern: str
    index: int | None
    attempt: int | None
    script: Script

    def fits(self, name: str, index: int | None, attempt: int) -> bool:
        """Whether a pod plays it."""
        same = self.index in (None, index) and self.attempt in (None, attempt)
        return same and fnmatch.fnmatchcase(name, self.pattern)


class Kubelet:
    """`default` is played by pods that no rule is for."""

    def __init__(self, storage: Storage, logs: Logs, default: Script) -> None:
        self.storage = storage
        self.logs = logs
        self.default = default
        self.recorder = Recorder(storage, "kubelet")
        self.scheduler = Recorder(storage, "default-scheduler")
        self.problems: list[str] = []
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._workers: dict[str, Worker] = {}
        self._attempts: Counter[tuple[str, str, int | None]] = Counter()
        self._addresses = itertools.count(1)

    def script(self, rule: Rule) -> None:
        """Add a rule; the one added last is asked first."""
        self._rules.insert(0, rule)

    def on_pod(self, entry: Entry) -> None:
        """Hear of a change of a pod."""
        meta = entry.item["metadata"]
        worker = self._workers.get(meta["uid"])
        if entry.change == "ADDED":
            self._begin(entry.item)
        elif worker is not None and (entry.change == "DELETED" or meta.get("deletionTimestamp")):
            if worker.ended:
                self.tidy(worker)
            else:
                worker.stop()

    def _begin(self, pod: Object) -> None:
        meta = pod["metadata"]
        owners = [owner["name"] for owner in meta.get("ownerReferences") or () if owner["kind"] == "Job"]
        name = owners[0] if owners else meta["name"]
        text = (meta.get("annotations") or {}).get(INDEX)
        index = None if text is None else int(text)
        place = (meta["namespace"], name, index)
        self._attempts[place] += 1
        attempt = self._attempts[place]
        script = next((rule.script for rule in self._rules if rule.fits(name, index, attempt)), self.default)
        worker = Worker(self, pod, attempt, script)
        with self._lock:
            self._workers[meta["uid"]] = worker
        worker.start()

    def tidy(self, worker: Worker) -> None:
        """A pod's worker is done: take the pod away if it is being deleted."""
        pod = self.storage.get(PODS, worker.key)
        ours = pod is not None and pod["metadata"]["uid"] == worker.uid
        if pod is not None and ours and pod["metadata"].get("deletionTimestamp"):
            worker.take_away()
        if self.storage.get(PODS, worker.key) is None or not ours:
            with self._lock:
                self._workers.pop(worker.uid, None)

    def stop(self) -> None:
        """End all pods at once."""
        with self._lock:
            workers = list(self._workers.values())
        for worker in workers:
            worker.lose()
        for worker in workers:
            worker.join(10)

    def worker(self, key: Key) -> Worker:
        """The worker of a pod that is there. Raises KeyError."""
        pod = self.storage.get(PODS, key)
        if pod is None:
            raise KeyError(key)
        return self._workers[pod["metadata"]["uid"]]

    def new_address(self) -> str:
        """An IP address for a pod."""
        number = next(self._addresses)
        return f"10.244.{number // 254 % 256}.{number % 254 + 1}"

    def preempt(self, key: Key, by: str = "a pod of higher priority") -> None:
        """The scheduler takes a pod's place away: it is marked and deleted, with its grace."""
        message = f"default-scheduler: preempting to accommodate {by}"
        condition = disruption("PreemptionByScheduler", message)
        self.storage.update(PODS, key, lambda pod: pod_status.with_condition(pod, condition))
        self._tell(key, "Preempted", f"Preempted by {by} on node node-0")
        deletion.delete(self.storage, PODS, key, {})

    def evict(self, key: Key, resource: str = "memory") -> None:
        """The node is short of something: the kubelet ends the pod and leaves it there as failed."""
        message = f"The node was low on resource: {resource}. Threshold quantity: 100Mi, available: 52Mi."
        condition = disruption("TerminationByKubelet", message)
        self._tell(key, "Evicted", message)
        self.worker(key).stop(Ending("Evicted", message, condition, grace=0))

    def shut_down_node(self, key: Key, grace: float = 5.0) -> None:
        """The node shuts down in order: pods end within the grace and are left there as failed."""
        message = "Pod was terminated in response to imminent node shutdown."
        condition = disruption("TerminationByKubelet", message)
        self.worker(key).stop(Ending("Terminated", message, condition, grace))

    def lose_node(self, key: Key, tolerated: float = 0.0, *, running: bool = False) -> None:
        """The pod's node is cut off: not ready, and after the tolerated seconds marked for deletion.

        Nobody answers that deletion: the pod stays, until `collect` or a deletion without grace. Its
        containers are dead, or with `running` go on unseen until the bed ends.
        """
        worker = self.worker(key)
        worker.lose(running=running)
        self.storage.update(PODS, key, lambda pod: pod_status.not_ready(pod, "NodeNotReady"))
        self._tell(key, "NodeNotReady", "Node is not ready")
        timer = threading.Timer(tolerated, self._taint, [key])
        timer.daemon = True
        timer.start()

    def _taint(self, key: Key) -> None:
        message = "Taint manager: deleting due to NoExecute taint"
        condition = disruption("DeletionByTaintManager", message)
        if self.storage.update(PODS, key, lambda pod: pod_status.with_condition(pod, condition)):
            self._tell(key, "TaintManagerEviction", f"Marking for deletion Pod {key[0]}/{key[1]}")
            try:
                deletion.delete(self.storage, PODS, key, {})
            except ApiError as error:
                if error.code != 404:  # someone else took the pod away meanwhile, as is wanted
                    self.problems.append(f"taint manager, Pod {key[0]}/{key[1]}: {error}")

    def collect(self, key: Key) -> None:
        """The lost node is removed from the cluster: its pod is failed and taken away (PodGC)."""
        condition = disruption("DeletionByPodGC", "PodGC: node no longer exists")

        def edit(pod: Object) -> Object:
            pod_status.with_condition(pod, condition)
            return pod_status.ended(pod, "Failed")

        if self.storage.update(PODS, key, edit):
            deletion.delete(self.storage, PODS, key, {"gracePeriodSeconds": 0})

    def _tell(self, key: Key, reason: str, message: str) -> None:
        pod = self.storage.get(PODS, key)
        if pod is not None:
            self.recorder.record(pod, reason, message, "Warning")
