"""Objects, their versions and the history that watches read: what etcd and the watch cache are."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from tests.cluster.bed import errors
from tests.cluster.bed.resources import Object, Resource

Key = tuple[str, str]
"""Namespace (empty for cluster-wide kinds) and name."""
Change = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True)
class Entry:
    """One change. `before` is None for ADDED; `data` is `item` as JSON."""

    version: int
    change: Change
    resource: Resource
    item: Object
    before: Object | None
    data: bytes


@dataclass(frozen=True)
class Stored:
    """An object's present version and its JSON, made once."""

    item: Object
    data: bytes


class Storage:
    """Every write takes the next resourceVersion and is atomic; objects handed out are not to be changed."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 1
        self._items: dict[Resource, dict[Key, Stored]] = defaultdict(dict)
        self._history: dict[Resource, list[Entry]] = defaultdict(list)
        self._forgotten: dict[Resource, int] = defaultdict(int)
        self._owned: dict[str, dict[tuple[Resource, Key], None]] = defaultdict(dict)
        self.births: dict[str, int] = {}
        self.listeners: list[Callable[[Entry], None]] = []

    def get(self, resource: Resource, key: Key) -> Object | None:
        """The object, or None."""
        stored = self._items[resource].get(key)
        return stored.item if stored else None

    def data(self, resource: Resource, key: Key) -> bytes:
        """The object as JSON. Raises ApiError 404."""
        stored = self._items[resource].get(key)
        if stored is None:
            raise errors.not_found(resource, key[1])
        return stored.data

    def all(self, resource: Resource, namespace: str = "") -> list[Stored]:
        """All objects of a kind, of one namespace if one is given, by name."""
        with self.lock:
            items = self._items[resource]
            return [items[key] for key in sorted(items) if not namespace or key[0] == namespace]

    def dependents(self, uid: str) -> list[tuple[Resource, Key]]:
        """What names `uid` among its owners."""
        with self.lock:
            return list(self._owned.get(uid, ()))

    def create(self, resource: Resource, item: Object) -> Object:
        """Store a new object. Raises ApiError 409 if the name is taken."""
        with self.lock:
            key = key_of(item)
            there = self.get(resource, key)
            if there is not None:
                raise errors.already_exists(resource, key[1], "deletionTimestamp" in there["metadata"])
            return self._write(resource, "ADDED", item, None)

    def update(
        self,
        resource: Resource,
        key: Key,
        edit: Callable[[Object], Object | None],
        version: str | None = None,
    ) -> Object | None:
        """Replace an object by ``edit(copy of it)``; None or no difference leaves it; None if there is none.

        With `version` it must still have that resourceVersion (409). An object that is being deleted goes for
        good when its last finalizer is taken off.
        """
        with self.lock:
            before = self.get(resource, key)
            if before is None:
                return None
            if version and version != before["metadata"]["resourceVersion"]:
                raise errors.conflict(resource, key[1])
            after = edit(json.loads(self._items[resource][key].data))
            if after is None or after == before:
                return before
            meta = after["metadata"]
            ended = meta.get("deletionTimestamp") and not meta.get("finalizers")
            if ended and not meta.get("deletionGracePeriodSeconds"):
                return self.remove(resource, key, after)
            return self._write(resource, "MODIFIED", after, before)

    def remove(self, resource: Resource, key: Key, last: Object | None = None) -> Object | None:
        """Take an object away, whatever its finalizers; its last state is what watches see."""
        with self.lock:
            before = self.get(resource, key)
            return None if before is None else self._write(resource, "DELETED", last or before, before)

    def _write(self, resource: Resource, change: Change, item: Object, before: Object | None) -> Object:
        self.version += 1
        item = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self.version)}}
        data = json.dumps(item, separators=(",", ":")).encode()
        key = key_of(item)
        for owner in (before or {}).get("metadata", {}).get("ownerReferences", ()):
            self._owned[owner["uid"]].pop((resource, key), None)
        if change == "DELETED":
            del self._items[resource][key]
        else:
            self._items[resource][key] = Stored(item, data)
            for owner in item["metadata"].get("ownerReferences") or ():
                self._owned[owner["uid"]][resource, key] = None
        if change == "ADDED":
            self.births[item["metadata"].get("uid", "")] = self.version
        entry = Entry(self.version, change, resource, item, before, data)
        self._history[resource].append(entry)
        self.changed.notify_all()
        for listener in self.listeners:
            listener(entry)
        return item

    def since(self, resource: Resource, version: int, limit: int = 500) -> list[Entry]:
        """Changes of a kind after `version`. Raises ApiError 410 if some of them are forgotten."""
        with self.lock:
            if version < self._forgotten[resource]:
                raise errors.expired(version, self._forgotten[resource])
            history = self._history[resource]
            low, high = 0, len(history)
            while low < high:
                middle = (low + high) // 2
                if history[middle].version <= version:
                    low = middle + 1
                else:
                    high = middle
            return history[low : low + limit]

    def forget(self, resources: Iterable[Resource]) -> None:
        """Forget the history up to now: whoever asks for less is answered 410."""
        with self.lock:
            for resource in resources:
                self.version += 1
                self._history[resource].clear()
                self._forgotten[resource] = self.version


def key_of(item: Object) -> Key:
    """Where an object is stored."""
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]
