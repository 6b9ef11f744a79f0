"""Conditions in the status of objects."""

from __future__ import annotations

from tests.cluster.bed.deletion import timestamp
from tests.cluster.bed.resources import Object


def disruption(reason: str, message: str) -> Object:
    """A pod condition that says the cluster, not the program, ended the pod."""
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}


def with_condition(item: Object, condition: Object) -> Object:
    """`item` with a condition set, in place; its transition time moves only if the status does."""
    status = item.setdefault("status", {})
    old = [entry for entry in status.get("conditions", ()) if entry["type"] == condition["type"]]
    moved = not old or old[0]["status"] != condition["status"]
    since = timestamp() if moved else old[0]["lastTransitionTime"]
    others = [entry for entry in status.get("conditions", ()) if entry["type"] != condition["type"]]
    status["conditions"] = [*others, {"lastTransitionTime": since, **condition}]
    return item
