"""Writes core/v1 Events, and counts up the one that is there when the same happens again."""

from __future__ import annotations

import uuid
from typing import Literal

from tests.cluster.bed.api import suffix
from tests.cluster.bed.deletion import timestamp
from tests.cluster.bed.resources import EVENTS, Object
from tests.cluster.bed.storage import Key, Storage


class Recorder:
    """Events of one component."""

    def __init__(self, storage: Storage, component: str) -> None:
        self._storage = storage
        self._component = component
        self._known: dict[tuple[str, str, str], Key] = {}

    def record(
        self, item: Object, reason: str, message: str, kind: Literal["Normal", "Warning"] = "Normal"
    ) -> None:
        """Tell that something happened to `item`."""
        meta = item["metadata"]
        same = (meta["uid"], reason, message)
        if same in self._known and self._storage.update(EVENTS, self._known[same], _again):
            return
        name = f"{meta['name']}.{suffix(16)}"
        now = timestamp()
        self._storage.create(
            EVENTS,
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {
                    "name": name,
                    "namespace": meta["namespace"],
                    "uid": str(uuid.uuid4()),
                    "creationTimestamp": now,
                },
                "involvedObject": {
                    "kind": item["kind"],
                    "apiVersion": item["apiVersion"],
                    "namespace": meta["namespace"],
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "resourceVersion": meta["resourceVersion"],
                },
                "reason": reason,
                "message": message,
                "type": kind,
                "count": 1,
                "firstTimestamp": now,
                "lastTimestamp": now,
                "source": {"component": self._component},
                "reportingComponent": self._component,
                "reportingInstance": "",
            },
        )
        self._known[same] = (meta["namespace"], name)


def _again(event: Object) -> Object:
    event["count"] += 1
    event["lastTimestamp"] = timestamp()
    return event
