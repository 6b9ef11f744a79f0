"""From a group's objects to the state it is in: pure functions over what the API server says.

Read from phases, conditions and reasons, never from log streams. Not covered: why a group failed
(`classify.py`) and how long it may stay in a state (`deadlines.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

Object = Mapping[str, Any]

_FINISHED = {"Complete": True, "Completed": True, "Failed": False}
"""Condition types that end a Job, JobSet or TrainJob, and whether that is well."""
_NOISE = ("Scheduled", "Pulling", "Pulled", "Created", "Started", "SuccessfulCreate", "Killing", "Completed")
_NODE_OUT = "DeletionByTaintManager"
_INDEX = "batch.kubernetes.io/job-completion-index"


class Phase(StrEnum):
    """Where a group is on its way."""

    QUEUED = "queued"
    SCHEDULING = "scheduling"
    PULLING = "pulling"
    RUNNING = "running"
    LOST = "lost"
    ENDING = "ending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True)
class Pod:
    """A pod in the few words that matter here."""

    name: str
    uid: str
    index: int
    created: str
    phase: str
    reason: str = ""
    message: str = ""
    node: str = ""
    unscheduled: str = ""
    """Why the scheduler finds no node."""
    waiting: str = ""
    """Why a container does not start: reason and message."""
    exit_code: int | None = None
    ended_by: str = ""
    """Reason of the container that failed, e.g. OOMKilled."""
    ended_message: str = ""
    disruption: str = ""
    """Reason and message of the condition DisruptionTarget."""
    deleted: bool = False
    started: datetime | None = None
    finished: datetime | None = None


@dataclass(frozen=True)
class State:
    """A group's state; `detail` says what it waits for, in the cluster's own words."""

    phase: Phase
    detail: str
    pods: tuple[Pod, ...]
    reason: str = ""
    """Reason and message of the condition that ended the workload."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes."""
        return tuple(sorted({pod.node for pod in self.pods if pod.node}))


def observe(
    workload: Object | None, pods: Sequence[Object], events: Sequence[Object], expected: int
) -> State:
    """The state of a group of `expected` pods."""
    found = tuple(read_pod(pod) for pod in pods)
    if workload is None:
        return State(Phase.GONE, newest_event(events), found)
    status = workload.get("status") or {}
    deleted = workload["metadata"].get("deletionTimestamp")
    for condition in status.get("conditions") or ():
        if condition.get("status") == "True" and condition.get("type") in _FINISHED:
            # A Job that is deleted loses its pods, and its controller may call that its failure. Both moments
            # are whole seconds in UTC, so their texts sort by time.
            if deleted and not _FINISHED[condition["type"]] and condition["lastTransitionTime"] >= deleted:
                continue
            phase = Phase.SUCCEEDED if _FINISHED[condition["type"]] else Phase.FAILED
            return State(phase, "", found, _words(condition))
    ending = _condition(status, "FailureTarget")
    if ending or deleted:
        return State(Phase.ENDING, _words(ending) if ending else "it is being deleted", found)
    if (workload.get("spec") or {}).get("suspend"):
        return State(Phase.QUEUED, newest_event(events), found)
    return _of_pods(found, events, expected)


def _of_pods(found: tuple[Pod, ...], events: Sequence[Object], expected: int) -> State:
    """The state of the pod that is least far."""
    current = _current(found)
    about = newest_event(events)
    for pod in current:
        if pod.phase == "Unknown":
            words = f"{pod.reason or 'its node does not answer'} {pod.message}".strip()
            return State(Phase.LOST, f"pod {pod.name}: {words}", found)
        if pod.phase == "Running" and pod.deleted and pod.disruption.startswith(_NODE_OUT):
            # Nobody on that node can confirm the deletion: the pod looks as if it ran for ever.
            return State(Phase.LOST, f"pod {pod.name} on {pod.node}: {pod.disruption}", found)
    waiting = [pod for pod in current if pod.phase == "Pending" and not pod.node]
    if waiting:
        return State(Phase.SCHEDULING, waiting[0].unscheduled or about, found)
    pulling = [pod for pod in current if pod.phase == "Pending"]
    if pulling:
        words = next((pod.waiting for pod in pulling if pod.waiting), "")
        joined = "; ".join(dict.fromkeys(part for part in (words, about) if part))
        return State(Phase.PULLING, joined, found)
    alive = [pod for pod in current if pod.phase in ("Running", "Succeeded")]
    if len(alive) < expected:
        return State(Phase.SCHEDULING, about or f"{len(alive)} of {expected} pods are there", found)
    return State(Phase.RUNNING, f"on {', '.join(sorted({pod.node for pod in alive}))}", found)


def _current(pods: Iterable[Pod]) -> list[Pod]:
    """The newest pod of each index that has not failed or been deleted."""
    newest: dict[int, Pod] = {}
    for pod in sorted(pods, key=lambda item: item.created):
        if pod.phase != "Failed":
            newest[pod.index] = pod
    return list(newest.values())


def read_pod(pod: Object) -> Pod:
    """A pod's fields, from the JSON of the API."""
    meta, status = pod["metadata"], pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    waiting = next((item["state"]["waiting"] for item in containers if _has(item, "waiting")), {})
    ended = [_terminated(item) for item in containers]
    failed = next((item for item in ended if item and item.get("exitCode") != 0), None) or {}
    last = failed or next((item for item in reversed(ended) if item), {})
    running = [item["state"]["running"] for item in containers if _has(item, "running")]
    scheduled = _condition(status, "PodScheduled", "False")
    disruption = _condition(status, "DisruptionTarget")
    annotations = {**(meta.get("labels") or {}), **(meta.get("annotations") or {})}
    return Pod(
        name=meta["name"],
        uid=str(meta.get("uid", "")),
        index=int(annotations.get(_INDEX, 0)),
        created=str(meta.get("creationTimestamp", "")),
        phase=str(status.get("phase", "Pending")),
        reason=str(status.get("reason") or ""),
        message=str(status.get("message") or ""),
        node=str((pod.get("spec") or {}).get("nodeName") or ""),
        unscheduled=_words(scheduled) if scheduled else "",
        waiting=_words(waiting) if waiting.get("reason") not in (None, "ContainerCreating") else "",
        exit_code=last.get("exitCode"),
        ended_by=str(failed.get("reason") or ""),
        ended_message=str(failed.get("message") or ""),
        disruption=_words(disruption) if disruption else "",
        deleted=bool(meta.get("deletionTimestamp")),
        started=_time((running or [last])[0].get("startedAt")),
        finished=_time(last.get("finishedAt")),
    )


def newest_event(events: Iterable[Object]) -> str:
    """The newest event that says more than that all is as usual; the newest warning, if there is one."""
    telling = [event for event in events if event.get("reason") not in _NOISE]
    warnings = [event for event in telling if event.get("type") == "Warning"]
    newest = max(warnings or telling, key=event_time, default=None)
    return "" if newest is None else f"event {_words(newest)}"


def event_time(event: Object) -> str:
    """When an event was last seen."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    created = event["metadata"].get("creationTimestamp")
    return str(next((time for time in (*times, created) if time), ""))


def _has(container: Object, state: str) -> bool:
    return bool((container.get("state") or {}).get(state))


def _terminated(container: Object) -> Mapping[str, Any] | None:
    for place in ("state", "lastState"):
        found = (container.get(place) or {}).get("terminated")
        if found:
            return found
    return None


def _condition(status: Object, kind: str, value: str = "True") -> Object | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == kind and condition.get("status") == value:
            return condition
    return None


def _words(item: Object) -> str:
    reason, message = str(item.get("reason") or ""), str(item.get("message") or item.get("note") or "")
    return ": ".join(part for part in (reason, message.strip()) if part)


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
