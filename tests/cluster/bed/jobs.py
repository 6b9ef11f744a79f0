"""The Job controller: from a Job and its pods to the pods that are missing, those too many, and the status.

After kubernetes/kubernetes' `pkg/controller/job` with the feature gates of 1.37; not covered:
`backoffLimitPerIndex`, `successPolicy`, `managedBy`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from datetime import UTC, datetime

from tests.cluster.bed import deletion, failure_policy
from tests.cluster.bed.api import Api, suffix
from tests.cluster.bed.errors import ApiError
from tests.cluster.bed.events import Recorder
from tests.cluster.bed.garbage import without_finalizer
from tests.cluster.bed.job_status import Status
from tests.cluster.bed.resources import JOBS, PODS, Object, Resource
from tests.cluster.bed.storage import Key, Storage

TRACKING = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
ENDED = ("Succeeded", "Failed")
_MAX_BACKOFF = 360.0


class JobController:
    """`sync` is for each change of a Job or one of its pods; `again(key, seconds)` asks for a later call.

    `backoff_seconds` is the pause before the first pod that replaces a failed one; it doubles up to six
    minutes. (The real one: 10.)
    """

    def __init__(
        self, api: Api, recorder: Recorder, again: Callable[[Key, float], None], backoff_seconds: float
    ) -> None:
        self._api = api
        self._storage: Storage = api.storage
        self._recorder = recorder
        self._again = again
        self._backoff = backoff_seconds
        self._failures: dict[str, tuple[int, float]] = {}

    def sync(self, key: Key) -> None:
        """Bring one Job forward."""
        job = self._storage.get(JOBS, key)
        if job is None:
            return
        pods = self._pods(job)
        if _ended(job):
            for pod in pods:
                self._release(pod)
            self._delete_when_due(job, key)
            return
        status = Status(job)
        for pod in pods:
            self._account(job, pod, status)
        pods = [pod for pod in pods if not _terminal(pod)]  # one that has ended since is counted next time
        going = [pod for pod in pods if pod["metadata"].get("deletionTimestamp")]
        active = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        self._check_limits(job, key, status)
        if status.verdict is None:
            active = self._manage(job, key, status, active, going)
        else:
            self._delete(job, active)
        status.active, status.ready = len(active) if status.verdict is None else 0, sum(map(_ready, active))
        status.terminating = len(going) + (len(active) if status.verdict else 0)
        self._write(job, key, status)

    def release(self, key: Key) -> None:
        """Take the tracking finalizer off a pod whose Job is gone."""
        pod = self._storage.get(PODS, key)
        if pod is None or TRACKING not in (pod["metadata"].get("finalizers") or ()):
            return
        owners = pod["metadata"].get("ownerReferences") or ()
        jobs = [self._storage.get(JOBS, (key[0], owner["name"])) for owner in owners]
        known = {job["metadata"]["uid"] for job in jobs if job}
        if not any(owner["uid"] in known for owner in owners):
            self._release(pod)

    def pods_of(self, job: Object) -> list[tuple[Resource, Key]]:
        """Where the pods of a Job are, even if the Job is gone."""
        found = self._storage.dependents(job["metadata"]["uid"])
        return [(resource, key) for resource, key in found if resource == PODS]

    def _pods(self, job: Object) -> list[Object]:
        pods = [self._storage.get(PODS, key) for _, key in self.pods_of(job)]
        return [pod for pod in pods if pod is not None]

    def _account(self, job: Object, pod: Object, status: Status) -> None:
        """Count a pod that has ended, once: the finalizer says that it is not yet counted."""
        if TRACKING not in (pod["metadata"].get("finalizers") or ()):
            return
        uid = job["metadata"]["uid"]
        if pod["status"].get("phase") == "Succeeded":
            status.succeed(index_of(pod))
            self._failures.pop(uid, None)
        elif failed(job, pod):
            verdict = failure_policy.judge(job, pod)
            if verdict.action == "FailJob":
                status.fail("PodFailurePolicy", verdict.message)
            if verdict.action != "Ignore":
                status.failed += 1
            self._failures[uid] = (self._failures.get(uid, (0, 0.0))[0] + 1, time.monotonic())
        else:
            return
        self._release(pod)

    def _release(self, pod: Object) -> None:
        key = pod["metadata"]["namespace"], pod["metadata"]["name"]
        self._storage.update(PODS, key, lambda item: without_finalizer(item, TRACKING))

    def _check_limits(self, job: Object, key: Key, status: Status) -> None:
        spec = job["spec"]
        if status.verdict:
            return
        if status.failed > spec["backoffLimit"]:
            status.fail("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        elif status.wanted is not None and status.done >= status.wanted:
            status.complete()
        elif (limit := spec.get("activeDeadlineSeconds")) is not None and job["status"].get("startTime"):
            left = limit - _age(job["status"]["startTime"])
            if left <= 0 and not spec["suspend"]:
                status.fail("DeadlineExceeded", "Job was active longer than specified deadline")
            else:
                self._again(key, max(0.05, left))

    def _manage(
        self, job: Object, key: Key, status: Status, active: list[Object], going: list[Object]
    ) -> list[Object]:
        """Create or delete pods until as many run as should."""
        spec = job["spec"]
        if spec["suspend"]:
            self._delete(job, active, counted=False)
            status.suspend(True)
            going.extend(active)
            return []
        status.suspend(False)
        if job["metadata"].get("deletionTimestamp"):
            return active
        wanted = spec["parallelism"]
        if status.wanted is not None:
            wanted = min(wanted, status.wanted - status.done)
        if len(active) > wanted:
            self._delete(job, active[wanted:], counted=False)
            going.extend(active[wanted:])
            return active[:wanted]
        waits_for_going = spec["podReplacementPolicy"] == "Failed"
        missing = wanted - len(active) - (len(going) if waits_for_going else 0)
        if missing <= 0:
            return active
        if (pause := self._pause(job)) > 0:
            self._again(key, pause)
            return active
        taken = status.indexes | {index_of(pod) for pod in (active + going if waits_for_going else active)}
        free = [index for index in range(status.wanted or 0) if index not in taken]
        indexed = spec["completionMode"] == "Indexed"
        indexes: list[int | None] = [*free[:missing]] if indexed else [None] * missing
        return active + [pod for index in indexes if (pod := self._create(job, index)) is not None]

    def _pause(self, job: Object) -> float:
        count, last = self._failures.get(job["metadata"]["uid"], (0, 0.0))
        if not count:
            return 0.0
        return last + min(_MAX_BACKOFF, self._backoff * 2 ** (count - 1)) - time.monotonic()

    def _create(self, job: Object, index: int | None) -> Object | None:
        try:
            pod = self._api.create(PODS, job["metadata"]["namespace"], pod_of(job, index))
        except ApiError as error:
            self._recorder.record(job, "FailedCreate", f"Error creating: {error}", "Warning")
            return None
        self._recorder.record(job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
        return pod

    def _delete(self, job: Object, pods: list[Object], counted: bool = True) -> None:
        """Delete pods; those of a suspension or of a lower parallelism do not count as failed."""
        for pod in pods:
            if not counted:
                self._release(pod)
            key = pod["metadata"]["namespace"], pod["metadata"]["name"]
            deletion.delete(self._storage, PODS, key, {})
            self._recorder.record(job, "SuccessfulDelete", f"Deleted pod: {key[1]}")

    def _write(self, job: Object, key: Key, status: Status) -> None:
        for reason, message, kind in status.events():
            self._recorder.record(job, reason, message, kind)
        self._storage.update(JOBS, key, status.apply)

    def _delete_when_due(self, job: Object, key: Key) -> None:
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        if ttl is None or job["metadata"].get("deletionTimestamp"):
            return
        ended = [
            c
            for c in job["status"]["conditions"]
            if c["type"] in ("Complete", "Failed") and c["status"] == "True"
        ]
        left = ttl - _age(ended[0]["lastTransitionTime"])
        if left <= 0:
            deletion.delete(self._storage, JOBS, key, {"propagationPolicy": "Foreground"})
        else:
            self._again(key, left)


def pod_of(job: Object, index: int | None) -> Object:
    """A new pod of a Job."""
    template, meta = copy.deepcopy(job["spec"]["template"]), job["metadata"]
    name = meta["name"] if index is None else f"{meta['name']}-{index}"
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    pod = {**template, "metadata": dict(template.get("metadata", {}))}
    pod["metadata"].update(name=f"{name[:57]}-{suffix()}", generateName=f"{name}-", ownerReferences=[owner])
    pod["metadata"]["finalizers"] = [TRACKING]
    if index is not None:
        for part in ("labels", "annotations"):
            pod["metadata"][part] = {**(pod["metadata"].get(part) or {}), INDEX: str(index)}
        pod["spec"]["hostname"] = name
        source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
        for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
            known = {variable["name"] for variable in container.get("env", ())}
            if "JOB_COMPLETION_INDEX" not in known:
                container.setdefault("env", []).append({"name": "JOB_COMPLETION_INDEX", "valueFrom": source})
    return pod


def index_of(pod: Object) -> int | None:
    """A pod's completion index."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX)
    return None if text is None else int(text)


def failed(job: Object, pod: Object) -> bool:
    """Whether a pod counts as failed; if replacements wait for the end, only one that has ended does."""
    if pod["status"].get("phase") == "Failed":
        return True
    gone = bool(pod["metadata"].get("deletionTimestamp")) and pod["status"].get("phase") != "Succeeded"
    return gone and job["spec"]["podReplacementPolicy"] != "Failed"


def _terminal(pod: Object) -> bool:
    return pod["status"].get("phase") in ENDED


def _ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def _ended(job: Object) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    return any(entry["type"] in ("Complete", "Failed") and entry["status"] == "True" for entry in conditions)


def _age(stamp: str) -> float:
    then = datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return (datetime.now(UTC) - then).total_seconds()
