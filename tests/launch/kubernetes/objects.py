"""Jobs, pods and events as an API server answers them, in as many words as a test needs."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def job(*conditions: Object, suspend: bool = False, **meta: Any) -> Object:
    """A Job with these conditions, all true."""
    return {
        "metadata": {"name": "train-a1", "uid": "j1", **meta},
        "spec": {"suspend": suspend},
        "status": {"conditions": [{"status": "True", **condition} for condition in conditions]},
    }


def pod(
    phase: str = "Running",
    *conditions: Object,
    index: int = 0,
    node: str = "node-1",
    created: str = "2026-01-01T00:00:00Z",
    reason: str = "",
    message: str = "",
    deleted: bool = False,
    **state: Any,
) -> Object:
    """A pod with one container in `state` (running, waiting or terminated)."""
    meta: Object = {
        "name": f"train-a1-{index}-{created[17:19]}",
        "uid": f"p{index}-{created}",
        "creationTimestamp": created,
        "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
    }
    if deleted:
        meta["deletionTimestamp"] = created
    return {
        "metadata": meta,
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": phase,
            "reason": reason,
            "message": message,
            "conditions": list(conditions),
            "containerStatuses": [{"name": "stage", "restartCount": 0, "state": state}] if state else [],
        },
    }


def event(reason: str, message: str, at: str, kind: str = "Warning") -> Object:
    """An event, last seen at a time."""
    return {"metadata": {}, "type": kind, "reason": reason, "message": message, "lastTimestamp": at}


def disrupted(reason: str, message: str = "") -> Object:
    """The condition of a pod that the cluster takes away."""
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available",
}
