"""Watch streams: what changed since a version, as seen through a selector."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

from tests.cluster.bed.api import Call, selection
from tests.cluster.bed.errors import ApiError
from tests.cluster.bed.faults import Faults
from tests.cluster.bed.selectors import Test
from tests.cluster.bed.storage import Entry, Storage

BOOKMARK_SECONDS = 60.0
"""Between bookmarks on a quiet watch that asked for them; the real server sends one about every minute."""


class Broken(Exception):
    """The connection is to be cut without an end of the stream."""


def stream(
    storage: Storage, faults: Faults, call: Call, stopped: threading.Event, bookmark_seconds: float
) -> Iterator[bytes]:
    """Lines of a watch. Ends at its time limit, when watches are closed, or after an ERROR line.

    Without resourceVersion, or with "0", it begins with an ADDED line for all there is. An empty line of
    bytes is yielded now and then so that a client that went away is noticed.
    """
    test = selection(call)
    kind = call.resource.plural
    closings = faults.closings(kind)
    limit = float(call.query.get("timeoutSeconds") or 3600)
    bookmarks = call.query.get("allowWatchBookmarks") == "true"
    end, bookmark = time.monotonic() + limit, time.monotonic() + bookmark_seconds
    asked = call.query.get("resourceVersion") or "0"
    version = int(asked)
    if asked == "0":
        with storage.lock:
            there, version = storage.all(call.resource, call.namespace), storage.version
        yield from (_line("ADDED", stored.data) for stored in there if test(stored.item))
    while time.monotonic() < end and not stopped.is_set():
        try:
            entries, version = _wait(storage, call, version, min(end, bookmark))
        except ApiError as error:
            yield _line("ERROR", json.dumps(error.status).encode())
            return
        for entry in entries:
            if line := _seen(entry, call.namespace, test):
                yield from [line] * faults.copies(kind)
        now = faults.closings(kind)
        if now != closings:
            if now[1] != closings[1]:
                raise Broken
            return
        if not entries and time.monotonic() >= bookmark:
            bookmark = time.monotonic() + bookmark_seconds
            yield _bookmark(version, call) if bookmarks else b""


def _wait(storage: Storage, call: Call, version: int, until: float) -> tuple[list[Entry], int]:
    """Changes after `version` as soon as there are some, or none after a fifth of a second.

    And the version up to which nothing is left to tell.
    """
    with storage.lock:
        entries = storage.since(call.resource, version)
        if not entries:
            storage.changed.wait(max(0.0, min(0.2, until - time.monotonic())))
            entries = storage.since(call.resource, version)
        return entries, entries[-1].version if entries else storage.version


def _seen(entry: Entry, namespace: str, test: Test) -> bytes | None:
    """The line a watcher gets: objects that come into or go out of its selection are added and deleted."""
    if namespace and entry.item["metadata"].get("namespace") != namespace:
        return None
    was = entry.before is not None and test(entry.before)
    matches = entry.change != "DELETED" and test(entry.item)
    if was and matches:
        return _line("MODIFIED", entry.data)
    if matches:
        return _line("ADDED", entry.data)
    if was:
        return _line("DELETED", entry.data)
    return None


def _line(change: str, data: bytes) -> bytes:
    return b'{"type":"%s","object":%s}\n' % (change.encode(), data)


def _bookmark(version: int, call: Call) -> bytes:
    meta = {"resourceVersion": str(version), "creationTimestamp": None}
    item = {"kind": call.resource.kind, "apiVersion": call.resource.api_version, "metadata": meta}
    return _line("BOOKMARK", json.dumps(item).encode())
