"""Faults on demand: what networks, proxies and busy API servers do to requests and watches."""

from __future__ import annotations

import fnmatch
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from tests.cluster.bed.errors import ApiError

_MESSAGES = {
    429: "the server has received too many requests and has asked us to try again later",
    500: "Internal error occurred: etcdserver: request timed out",
    503: "the server is currently unable to handle the request",
    504: "Timeout: request did not complete within the allotted timeout",
}


@dataclass
class Fault:
    """What happens to the next `times` requests that match; ``*`` matches everything.

    ``fail`` answers with `error`. ``drop`` closes the connection without an answer before the request is
    looked at, ``drop_answer`` after it took effect. ``stall`` waits `seconds` first.
    """

    verb: str
    kind: str
    name: str
    times: int
    action: Literal["fail", "drop", "drop_answer", "stall"]
    error: ApiError | None = None
    seconds: float = 0.0

    def matches(self, verb: str, kind: str, name: str) -> bool:
        """Whether this fault is for such a request."""
        pairs = ((verb, self.verb), (kind, self.kind), (name, self.name))
        return self.times > 0 and all(fnmatch.fnmatchcase(value, pattern) for value, pattern in pairs)


class Faults:
    """Verbs are Kubernetes' (get, list, watch, create, update, patch, delete, deletecollection), kinds the
    plurals of paths (``pods``, ``jobs``, ``pods/log``)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: list[Fault] = []
        self._events: Counter[tuple[str, str]] = Counter()
        self._closed: Counter[tuple[str, str]] = Counter()
        self.done: Counter[str] = Counter()

    def fail(
        self,
        verb: str = "*",
        kind: str = "*",
        *,
        name: str = "*",
        code: int = 503,
        times: int = 1,
        retry_after: int = 0,
        message: str = "",
    ) -> None:
        """Answer the next `times` matching requests with a failure."""
        error = ApiError(code, message or _MESSAGES.get(code, f"injected {code}"), retry_after=retry_after)
        self._add(Fault(verb, kind, name, times, "fail", error))

    def drop(
        self, verb: str = "*", kind: str = "*", *, name: str = "*", times: int = 1, applied: bool = False
    ) -> None:
        """Close the connection without an answer; with `applied` after the request has taken effect."""
        self._add(Fault(verb, kind, name, times, "drop_answer" if applied else "drop"))

    def stall(
        self, seconds: float, verb: str = "*", kind: str = "*", *, name: str = "*", times: int = 1
    ) -> None:
        """Let the next `times` matching requests wait before they are looked at."""
        self._add(Fault(verb, kind, name, times, "stall", seconds=seconds))

    def lose_event(self, kind: str = "*", times: int = 1) -> None:
        """Do not send the next `times` watch events of a kind (once each, on whatever watch is first)."""
        self._count("lost", kind, times)

    def repeat_event(self, kind: str = "*", times: int = 1) -> None:
        """Send the next `times` watch events of a kind twice."""
        self._count("repeated", kind, times)

    def close_watches(self, kind: str = "*", *, cleanly: bool = True) -> None:
        """End all open watches of a kind: as a server that is restarted, or as a connection that breaks."""
        with self._lock:
            self._closed["clean" if cleanly else "broken", kind] += 1
            self.done["watch closed"] += 1

    def clear(self) -> None:
        """Forget faults that have not happened yet."""
        with self._lock:
            self._pending.clear()
            self._events.clear()

    def take(self, verb: str, kind: str, name: str) -> Fault | None:
        """The fault a request meets, counted down."""
        if not self._pending:
            return None
        with self._lock:
            for fault in self._pending:
                if fault.matches(verb, kind, name):
                    fault.times -= 1
                    self.done[fault.action] += 1
                    self._pending = [other for other in self._pending if other.times > 0]
                    return fault
        return None

    def copies(self, kind: str) -> int:
        """How often the next watch event of a kind is sent: 1, or 0 or 2 if that was asked for."""
        if not self._events:
            return 1
        with self._lock:
            for what, copies in (("lost", 0), ("repeated", 2)):
                for pattern in (kind, "*"):
                    if self._events[what, pattern] > 0:
                        self._events[what, pattern] -= 1
                        self.done[f"event {what}"] += 1
                        return copies
        return 1

    def closings(self, kind: str) -> tuple[int, int]:
        """How often watches of a kind were closed so far: cleanly, and broken."""
        clean, broken = (self._closed[how, kind] + self._closed[how, "*"] for how in ("clean", "broken"))
        return clean, broken

    def _add(self, fault: Fault) -> None:
        with self._lock:
            self._pending.append(fault)

    def _count(self, what: str, kind: str, times: int) -> None:
        with self._lock:
            self._events[what, kind] += times
