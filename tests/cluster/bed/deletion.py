"""Deletion as the API server does it: grace for pods, finalizers for propagation policies, preconditions.

Who removes the finalizers is `garbage.py`, and who ends a pod's containers is the kubelet.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.cluster.bed import errors
from tests.cluster.bed.resources import JOBS, PODS, Object, Resource
from tests.cluster.bed.storage import Key, Storage

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_POLICIES = ("Background", "Foreground", "Orphan")
ORPHAN_WARNING = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove "
    "them or set propagationPolicy=Orphan to suppress this warning"
)


def timestamp(moment: datetime | None = None) -> str:
    """A moment (default: now) as Kubernetes writes it: whole seconds, UTC."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def policy_of(resource: Resource, options: Object) -> str:
    """The propagation policy of a delete request. Jobs orphan their pods unless told otherwise."""
    if options.get("orphanDependents") is not None:
        return "Orphan" if options["orphanDependents"] else "Background"
    policy = options.get("propagationPolicy") or ("Orphan" if resource == JOBS else "Background")
    if policy not in _POLICIES:
        known = ", ".join(f'"{name}"' for name in (*_POLICIES, "nil"))
        cause = (
            "propagationPolicy",
            "FieldValueNotSupported",
            f'Unsupported value: "{policy}": supported values: {known}',
        )
        raise errors.invalid(Resource("", "v1", "deleteoptions", "DeleteOptions"), "", [cause])
    return policy


def delete(storage: Storage, resource: Resource, key: Key, options: Object) -> tuple[Object, bool]:
    """Delete an object, or begin to: its state then, and whether it is gone. Raises ApiError 404, 409."""
    policy = policy_of(resource, options)
    with storage.lock:
        item = storage.get(resource, key)
        if item is None:
            raise errors.not_found(resource, key[1])
        _check_preconditions(resource, item, options.get("preconditions") or {})
        grace = _grace(resource, item, options.get("gracePeriodSeconds"))
        after = storage.update(resource, key, lambda item: _marked(item, policy, grace)) or item
        return after, storage.get(resource, key) is None


def _check_preconditions(resource: Resource, item: Object, wanted: Object) -> None:
    meta = item["metadata"]
    for field, title in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if wanted.get(field) not in (None, meta[field]):
            there = f"{title} in object meta: {meta[field]}"
            why = f"Precondition failed: {title} in precondition: {wanted[field]}, {there}"
            raise errors.conflict(resource, meta["name"], why)


def _grace(resource: Resource, item: Object, asked: int | None) -> int:
    """Seconds a pod's containers get; pods that were not scheduled or have ended need none."""
    if resource != PODS:
        return 0
    ended = item.get("status", {}).get("phase") in ("Succeeded", "Failed")
    if ended or not item["spec"].get("nodeName"):
        return 0
    own = item["spec"].get("terminationGracePeriodSeconds", 30)
    return own if asked is None else max(0, int(asked))


def _marked(item: Object, policy: str, grace: int) -> Object:
    meta = item["metadata"]
    kept = [name for name in meta.get("finalizers") or () if name not in (FOREGROUND, ORPHAN)]
    added = {"Foreground": [FOREGROUND], "Orphan": [ORPHAN]}.get(policy, [])
    meta["finalizers"] = [*kept, *added]
    if not meta["finalizers"]:
        del meta["finalizers"]
    if "deletionTimestamp" not in meta or grace < meta.get("deletionGracePeriodSeconds", 0):
        meta["deletionTimestamp"] = timestamp(datetime.now(UTC) + timedelta(seconds=grace))
        meta["deletionGracePeriodSeconds"] = grace
    return item
