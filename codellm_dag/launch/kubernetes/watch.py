"""A live copy of our groups in one namespace, kept by watches: one for each kind, whoever follows how many.

Each watch lists, then follows changes from there. A broken connection goes on from the last version seen; a
version that is too old (410) and a watch that ran its time are followed by a new list, so that even a change
that was never sent is seen in the end. Not covered: what the objects mean (`state.py`).
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from codellm_dag.launch.kubernetes import names
from codellm_dag.launch.kubernetes.answers import ApiError, BrokenError, Object, Stream, UnreachableError
from codellm_dag.launch.kubernetes.api import Api
from codellm_dag.launch.kubernetes.kinds import EVENT, POD, Kind

_SELECTOR = f"{names.MANAGED_BY}={names.MANAGER}"
_GROUP = re.compile(r"[a-z0-9][-a-z0-9]*?-[0-9a-f]{12}-a[0-9]+(?![0-9])")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
_QUIET = 5.0
"""Seconds after which a watch that fails again begins with the shortest pause."""
_MAX_GONE = 200


@dataclass
class Snapshot:
    """What is known of a group now. `gone` are pods as they were last seen before they were deleted."""

    workload: Object | None
    pods: list[Object] = field(default_factory=list)
    gone: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)


class KindWatch:
    """Follows the objects of one kind in a thread of its own."""

    def __init__(
        self, api: Api, kind: Kind, namespace: str, changed: Callable[[str], None], seconds: int
    ) -> None:
        self.kind = kind
        self.synced = threading.Event()
        self.problem: Exception | None = None
        self.failing_since: float | None = None
        self._api = api
        self._namespace = namespace
        self._changed = changed
        self._seconds = seconds
        self._selector = "" if kind is EVENT else _SELECTOR
        self._version = ""
        self._lock = threading.Lock()
        self._groups: dict[str, dict[str, Object]] = {}
        self._gone: dict[str, Object] = {}
        self._stop = threading.Event()
        self._stream: Stream | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch-{kind.plural}", daemon=True)
        self._thread.start()

    def of(self, group: str) -> list[Object]:
        """The group's objects."""
        with self._lock:
            return list(self._groups.get(group, {}).values())

    def gone(self, group: str) -> list[Object]:
        """The group's objects that were deleted, as they were last seen; the newest of all groups only."""
        with self._lock:
            return [item for item in self._gone.values() if group_of(item) == group]

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._stream is not None:
            self._stream.close()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stop.is_set():
            began, problem = time.monotonic(), None
            try:
                if not self._version:
                    self._list()
                self._watch()
            except ApiError as error:
                self._version = ""  # 410: too old; whatever else it is, a new list tells
                problem = None if error.status == 410 else error
            except (BrokenError, UnreachableError) as error:
                problem = error
            lasted = time.monotonic() - began
            if lasted >= 0.9 * self._seconds:
                self._version = ""  # a change that was never sent is seen in the new list
            self._note(problem)
            if lasted > _QUIET:
                pause = _FIRST_PAUSE
            elif not self._stop.wait(pause):
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _list(self) -> None:
        items, version = self._api.list(self.kind, self._namespace, self._selector, budget=0)
        self._replace(items)
        self._version = version
        self._note(None)
        self.synced.set()

    def _watch(self) -> None:
        """Apply changes until the stream ends."""
        self._stream = self._api.watch(
            self.kind, self._namespace, self._version, self._selector, self._seconds
        )
        self._note(None)
        for event in self._stream:
            self._version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._apply(event["object"], event["type"] == "DELETED")
            if self._stop.is_set():
                return

    def _note(self, problem: Exception | None) -> None:
        self.problem = problem
        self.failing_since = None if problem is None else self.failing_since or time.monotonic()

    def _replace(self, items: list[Object]) -> None:
        """Take a list as the truth: what is not in it was deleted."""
        fresh: dict[str, dict[str, Object]] = {}
        for item in items:
            group = group_of(item)
            if group:
                item.update(apiVersion=self.kind.api_version, kind=self.kind.name)
                fresh.setdefault(group, {})[item["metadata"]["uid"]] = item
        with self._lock:
            old, self._groups = self._groups, fresh
            for group, objects in old.items():
                for uid, item in objects.items():
                    if uid not in fresh.get(group, {}):
                        self._remember(uid, item)
        for group in old.keys() | fresh.keys():
            self._changed(group)

    def _apply(self, item: Object, deleted: bool) -> None:
        group, uid = group_of(item), item["metadata"]["uid"]
        if not group:
            return
        with self._lock:
            objects = self._groups.setdefault(group, {})
            if deleted:
                objects.pop(uid, None)
                self._remember(uid, item)
                if not objects:
                    del self._groups[group]
            else:
                objects[uid] = item
        self._changed(group)

    def _remember(self, uid: str, item: Object) -> None:
        if self.kind is POD:
            self._gone[uid] = item
            while len(self._gone) > _MAX_GONE:
                del self._gone[next(iter(self._gone))]


class Mirror:
    """The groups of one namespace, as all watches together see them."""

    def __init__(self, api: Api, namespace: str, seconds: int) -> None:
        self._api = api
        self._namespace = namespace
        self._seconds = seconds
        self._watches: dict[Kind, KindWatch] = {}
        self._waiting: dict[str, threading.Event] = {}
        self._lock = threading.Lock()
        self.followers = 0

    def follow(self, group: str, workload: Kind) -> None:
        """Begin to follow a group whose workload is of a kind."""
        with self._lock:
            self._waiting.setdefault(group, threading.Event())
            for kind in (workload, POD, EVENT):
                if kind not in self._watches:
                    self._watches[kind] = KindWatch(
                        self._api, kind, self._namespace, self._changed, self._seconds
                    )

    def leave(self, group: str) -> None:
        """Follow a group no more."""
        with self._lock:
            self._waiting.pop(group, None)

    def wait(self, group: str, seconds: float) -> None:
        """Wait until something of the group changed, at most so many seconds."""
        changed = self._waiting[group]
        changed.wait(seconds)
        changed.clear()

    def snapshot(self, group: str, workload: Kind) -> Snapshot | None:
        """What is known of a group; None before the first lists have come."""
        watches = self._watches
        if not all(watches[kind].synced.is_set() for kind in (workload, POD)):
            return None
        workloads = watches[workload].of(group)
        return Snapshot(
            workload=next((item for item in workloads if item["metadata"]["name"] == group), None),
            pods=watches[POD].of(group),
            gone=watches[POD].gone(group),
            events=watches[EVENT].of(group),
        )

    def failing(self, workload: Kind) -> tuple[float, Exception] | None:
        """Since when a watch that is needed does not work, and why; None if all do. Events may fail."""
        found = [self._watches[kind] for kind in (workload, POD)]
        since = [(item.failing_since, item.problem) for item in found if item.failing_since is not None]
        return min(since, key=lambda pair: pair[0], default=None)  # pyright: ignore[reportReturnType]

    def stop(self) -> None:
        """End all watches."""
        for watch in self._watches.values():
            watch.stop()

    def _changed(self, group: str) -> None:
        changed = self._waiting.get(group)
        if changed is not None:
            changed.set()


_mirrors: dict[tuple[str, str], Mirror] = {}
_mirrors_lock = threading.Lock()


@contextlib.contextmanager
def following(api: Api, group: str, namespace: str, workload: Kind, seconds: int) -> Iterator[Mirror]:
    """The mirror of a namespace, shared with all who follow a group there; it ends with the last of them."""
    key = (api.host, namespace)
    with _mirrors_lock:
        mirror = _mirrors.setdefault(key, Mirror(api, namespace, seconds))
        mirror.followers += 1
    try:
        mirror.follow(group, workload)
        yield mirror
    finally:
        mirror.leave(group)
        with _mirrors_lock:
            mirror.followers -= 1
            if not mirror.followers:
                del _mirrors[key]
                mirror.stop()


def group_of(item: Object) -> str:
    """The group an object belongs to by its label, or an event by the name of what it is about; or ''."""
    label = (item["metadata"].get("labels") or {}).get(names.GROUP)
    if label:
        return str(label)
    about = item.get("involvedObject") or item.get("regarding") or {}
    found = _GROUP.search(str(about.get("name", "")))
    return found.group() if found else ""
