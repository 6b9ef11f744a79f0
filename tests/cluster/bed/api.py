"""The verbs of the API on stored objects. HTTP is in `server.py`, watches in `watches.py`."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.bed import defaults, deletion, errors, patches, rules, schemas, selectors
from tests.cluster.bed.conditions import disruption, with_condition
from tests.cluster.bed.errors import ApiError
from tests.cluster.bed.resources import NAMESPACES, PODS, SERVICES, Object, Resource
from tests.cluster.bed.storage import Key, Storage, Stored

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SERVERS_OWN = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds")
_RETURNED_WHEN_DELETED = (PODS, SERVICES)


@dataclass(frozen=True)
class Call:
    """A request that was understood."""

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    content_type: str = ""

    @property
    def kind(self) -> str:
        """``pods`` or ``pods/log``."""
        return f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural

    @property
    def key(self) -> Key:
        """Where the object is stored."""
        return self.namespace, self.name

    @property
    def dry(self) -> bool:
        """Whether nothing is to be stored."""
        return self.query.get("dryRun") == "All"


@dataclass(frozen=True)
class Answer:
    """Status code, body and warnings."""

    code: int
    body: bytes
    warnings: tuple[str, ...] = ()
    content_type: str = "application/json"


def suffix(length: int = 5) -> str:
    """A random suffix as generated names have."""
    return "".join(random.choices(_ALPHABET, k=length))


class Api:
    """`logs` answers ``pods/log``: it is given the pod and the query."""

    def __init__(self, storage: Storage, logs: Callable[[Object, Mapping[str, str]], bytes]) -> None:
        self.storage = storage
        self.logs = logs

    def answer(self, call: Call) -> Answer:
        """Do what is asked. Raises ApiError."""
        if call.subresource == "log":
            pod = json.loads(self.storage.data(PODS, call.key))
            return Answer(200, self.logs(pod, call.query), content_type="text/plain")
        if call.subresource == "eviction":
            return self._evict(call)
        if call.subresource not in ("", "status"):
            raise ApiError(404, "the server could not find the requested resource", "NotFound")
        return getattr(self, f"_{call.verb}")(call)

    def create(self, resource: Resource, namespace: str, item: Object, dry: bool = False) -> Object:
        """Admit and store a new object."""
        meta = item.setdefault("metadata", {})
        if resource.namespaced:
            self._check_namespace(namespace, meta)
            meta["namespace"] = namespace
        schemas.check(resource, item)
        if not meta.get("name"):
            if not meta.get("generateName"):
                cause = (
                    "metadata.name",
                    "FieldValueRequired",
                    "Required value: name or generateName is required",
                )
                raise errors.invalid(resource, "", [cause])
            meta["name"] = meta["generateName"] + suffix()
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=deletion.timestamp())
        meta.setdefault("generation", 1)
        item["apiVersion"], item["kind"] = resource.api_version, resource.kind
        for name in ("resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds"):
            meta.pop(name, None)
        defaults.fill_in(resource, item)
        if not resource.custom:
            rules.check(resource, item)
        if dry:
            return item
        return self.storage.create(resource, item)

    def _check_namespace(self, namespace: str, meta: Object) -> None:
        if meta.get("namespace", namespace) != namespace:
            raise ApiError(
                400, "the namespace of the provided object does not match the namespace sent on the request"
            )
        if self.storage.get(NAMESPACES, ("", namespace)) is None:
            raise errors.not_found(NAMESPACES, namespace)

    def _create(self, call: Call) -> Answer:
        body = _object(call)
        return Answer(201, _json(self.create(call.resource, call.namespace, body, call.dry)))

    def _get(self, call: Call) -> Answer:
        return Answer(200, self.storage.data(call.resource, call.key))

    def select(self, call: Call) -> tuple[list[Stored], int]:
        """What a list or a delete of a collection is about, and the version it was seen at."""
        test = selection(call)
        with self.storage.lock:
            found = self.storage.all(call.resource, call.namespace)
            version = self.storage.version
        return [stored for stored in found if test(stored.item)], version

    def _list(self, call: Call) -> Answer:
        found, version = self.select(call)
        start = 0
        if token := call.query.get("continue"):
            version, start = (int(part) for part in token.split("."))
            self.storage.since(call.resource, version)  # 410 if that version is forgotten
        limit = int(call.query.get("limit") or 0) or len(found)
        page, rest = found[start : start + limit], len(found) - start - limit
        meta: Object = {"resourceVersion": str(version)}
        if rest > 0:
            meta.update({"continue": f"{version}.{start + limit}", "remainingItemCount": rest})
        head = {
            "kind": f"{call.resource.kind}List",
            "apiVersion": call.resource.api_version,
            "metadata": meta,
        }
        items = b",".join(stored.data for stored in page)
        return Answer(200, json.dumps(head).encode()[:-1] + b',"items":[' + items + b"]}")

    def _update(self, call: Call) -> Answer:
        body = _object(call)
        version = body.get("metadata", {}).get("resourceVersion")
        if body.get("metadata", {}).get("name", call.name) != call.name:
            raise ApiError(400, "the name of the object does not match the name on the URL")
        return self._change(call, lambda _: body, version)

    def _patch(self, call: Call) -> Answer:
        if call.resource.custom and call.content_type == patches.STRATEGIC_PATCH:
            raise ApiError(
                415, "strategic merge patch is not supported for custom resources; use merge patch"
            )
        version = (
            call.body.get("metadata", {}).get("resourceVersion") if isinstance(call.body, dict) else None
        )
        return self._change(call, lambda item: patches.apply(call.content_type, call.body, item), version)

    def _change(self, call: Call, edit: Callable[[Object], Object], version: str | None) -> Answer:
        resource = call.resource

        def checked(before: Object) -> Object:
            after = json.loads(_json(edit(before)))
            after.setdefault("metadata", {})["resourceVersion"] = before["metadata"]["resourceVersion"]
            if call.subresource == "status":
                after = {**before, "status": after.get("status", {})}
            elif not resource.custom and "status" in before:
                after["status"] = before["status"]
            if after["metadata"].get("uid", before["metadata"]["uid"]) != before["metadata"]["uid"]:
                raise errors.conflict(resource, call.name, "Precondition failed: UID in precondition differs")
            for name in _SERVERS_OWN:
                after["metadata"].pop(name, None)
                if name in before["metadata"]:
                    after["metadata"][name] = before["metadata"][name]
            if call.subresource != "status" and before.get("spec") != after.get("spec"):
                after["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
            schemas.check(resource, after)
            rules.check_change(resource, before, after)
            return before if call.dry else after

        result = self.storage.update(resource, call.key, checked, version)
        if result is None:
            raise errors.not_found(resource, call.name)
        return Answer(200, _json(result))

    def _delete(self, call: Call) -> Answer:
        options = _options(call)
        if call.dry:
            return self._get(call)
        warns = call.resource.plural == "jobs" and not {"propagationPolicy", "orphanDependents"} & set(
            options
        )
        warnings = (deletion.ORPHAN_WARNING,) if warns else ()
        item, gone = deletion.delete(self.storage, call.resource, call.key, options)
        if gone and call.resource not in _RETURNED_WHEN_DELETED:
            details = {"name": call.name, "group": call.resource.group, "kind": call.resource.plural}
            status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
            return Answer(
                200, _json({**status, "details": {**details, "uid": item["metadata"]["uid"]}}), warnings
            )
        return Answer(200, _json(item), warnings)

    def _deletecollection(self, call: Call) -> Answer:
        options = _options(call)
        found, version = self.select(call)
        deleted = []
        for stored in found:
            meta = stored.item["metadata"]
            key = meta.get("namespace", ""), meta["name"]
            if self.storage.get(call.resource, key) is not None:
                deleted.append(deletion.delete(self.storage, call.resource, key, options)[0])
        head = {"kind": f"{call.resource.kind}List", "apiVersion": call.resource.api_version}
        return Answer(200, _json({**head, "metadata": {"resourceVersion": str(version)}, "items": deleted}))

    def _evict(self, call: Call) -> Answer:
        """The eviction API: marks the pod as disrupted, then deletes it with its grace."""
        options = (call.body or {}).get("deleteOptions") or {}
        condition = disruption("EvictionByEvictionAPI", "Eviction API: evicting")
        self.storage.update(PODS, call.key, lambda pod: with_condition(pod, condition))
        deletion.delete(self.storage, PODS, call.key, options)
        return Answer(
            201,
            _json({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}),
        )


def selection(call: Call) -> selectors.Test:
    """The test of both selectors and of a name, if any is given."""
    label = selectors.label_test(call.query.get("labelSelector", ""))
    fields = selectors.field_test(call.resource.kind, call.query.get("fieldSelector", ""))
    return lambda item: (
        label(item) and fields(item) and (not call.name or item["metadata"]["name"] == call.name)
    )


def _object(call: Call) -> Object:
    if not isinstance(call.body, dict):
        raise ApiError(400, "the object provided is unrecognized (must be of type object)")
    kind, version = call.body.get("kind"), call.body.get("apiVersion")
    expected = call.resource.kind, call.resource.api_version
    if (kind or expected[0], version or expected[1]) != expected:
        text = f"{kind} in version {version!r} cannot be handled as a {call.resource.kind}"
        raise ApiError(400, text)
    return {"apiVersion": expected[1], "kind": expected[0], **call.body}


def _options(call: Call) -> Object:
    """DeleteOptions from the body; what the query names is used where the body is silent."""
    options = dict(call.body) if isinstance(call.body, dict) else {}
    for name in ("gracePeriodSeconds", "propagationPolicy", "orphanDependents"):
        if name in call.query and name not in options:
            text = call.query[name]
            options[name] = (
                text if name == "propagationPolicy" else text == "true" if "or" in name else int(text)
            )
    if "gracePeriodSeconds" in options:
        options["gracePeriodSeconds"] = int(options["gracePeriodSeconds"])
    return options


def _json(item: Object) -> bytes:
    return json.dumps(item, separators=(",", ":")).encode()
