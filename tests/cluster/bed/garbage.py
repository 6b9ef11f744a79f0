"""The garbage collector: what deletions do to dependents, by owner references."""

from __future__ import annotations

from tests.cluster.bed import deletion
from tests.cluster.bed.resources import RESOURCES, Object, Resource
from tests.cluster.bed.storage import Entry, Key, Storage, key_of


class GarbageCollector:
    """Told of every change; acts at once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def look(self, entry: Entry) -> None:
        """React to a change."""
        meta = entry.item["metadata"]
        if entry.change == "DELETED":
            for resource, key in self._storage.dependents(meta["uid"]):
                self._delete_orphan(resource, key)
            for owner in meta.get("ownerReferences") or ():
                self._look_again(owner, meta.get("namespace", ""))
            return
        if meta.get("deletionTimestamp"):
            self._work_off(entry.resource, key_of(entry.item))
        if entry.change == "ADDED" and meta.get("ownerReferences"):
            self._delete_orphan(entry.resource, key_of(entry.item))

    def _look_again(self, owner: Object, namespace: str) -> None:
        """A dependent went: its owner may have waited for that."""
        found = self._owner(owner, namespace)
        if found is not None and found[1]["metadata"].get("deletionTimestamp"):
            self._work_off(found[0], key_of(found[1]))

    def _work_off(self, resource: Resource, key: Key) -> None:
        """Do what the finalizers of an object under deletion ask for."""
        item = self._storage.get(resource, key)
        if item is None:
            return
        finalizers = item["metadata"].get("finalizers") or ()
        dependents = self._storage.dependents(item["metadata"]["uid"])
        if deletion.ORPHAN in finalizers:
            for resource_below, below in dependents:
                self._storage.update(resource_below, below, lambda child: _without_owner(child, item))
            self._take_off(resource, key, deletion.ORPHAN)
        elif deletion.FOREGROUND in finalizers:
            blocking = [child for child in dependents if self._blocks(child, item)]
            for resource_below, below in dependents:
                child = self._storage.get(resource_below, below)
                if child is not None and not child["metadata"].get("deletionTimestamp"):
                    deletion.delete(self._storage, resource_below, below, _policy(self._storage, child))
            if not blocking:
                self._take_off(resource, key, deletion.FOREGROUND)

    def _blocks(self, child: tuple[Resource, Key], owner: Object) -> bool:
        item = self._storage.get(*child)
        references = (item or {}).get("metadata", {}).get("ownerReferences") or ()
        uid = owner["metadata"]["uid"]
        return any(entry["uid"] == uid and entry.get("blockOwnerDeletion") for entry in references)

    def _take_off(self, resource: Resource, key: Key, finalizer: str) -> None:
        self._storage.update(resource, key, lambda item: without_finalizer(item, finalizer))

    def _delete_orphan(self, resource: Resource, key: Key) -> None:
        """Delete an object none of whose owners is there any more."""
        item = self._storage.get(resource, key)
        if item is None or item["metadata"].get("deletionTimestamp"):
            return
        owners = item["metadata"].get("ownerReferences") or ()
        if owners and not any(self._owner(owner, key[0]) for owner in owners):
            deletion.delete(self._storage, resource, key, _policy(self._storage, item))

    def _owner(self, reference: Object, namespace: str) -> tuple[Resource, Object] | None:
        for resource in RESOURCES:
            if (resource.kind, resource.api_version) == (reference["kind"], reference["apiVersion"]):
                key = (namespace if resource.namespaced else "", reference["name"])
                item = self._storage.get(resource, key)
                if item is not None and item["metadata"]["uid"] == reference["uid"]:
                    return resource, item
        return None


def _policy(storage: Storage, item: Object) -> Object:
    """The collector deletes in the foreground what has dependents itself, else in the background."""
    below = storage.dependents(item["metadata"]["uid"])
    return {"propagationPolicy": "Foreground" if below else "Background"}


def without_finalizer(item: Object, finalizer: str) -> Object:
    """`item` without a finalizer, in place."""
    left = [name for name in item["metadata"].get("finalizers") or () if name != finalizer]
    item["metadata"]["finalizers"] = left
    if not left:
        del item["metadata"]["finalizers"]
    return item


def _without_owner(child: Object, owner: Object) -> Object:
    uid = owner["metadata"]["uid"]
    left = [entry for entry in child["metadata"]["ownerReferences"] if entry["uid"] != uid]
    child["metadata"]["ownerReferences"] = left
    if not left:
        del child["metadata"]["ownerReferences"]
    return child
