"""The log of requests, to count what a client asks for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One request that was answered (a watch: that began)."""

    at: float
    verb: str
    kind: str
    namespace: str
    name: str
    code: int
    seconds: float


class Journal:
    """Requests from outside, in the order of their answers. Code 0: the connection was dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[Row] = []

    def add(self, verb: str, kind: str, namespace: str, name: str, code: int, seconds: float) -> None:
        """Note a request."""
        with self._lock:
            self._rows.append(Row(time.time(), verb, kind, namespace, name, code, seconds))

    def rows(self, verb: str = "", kind: str = "") -> list[Row]:
        """Requests, of one verb and of one kind if given."""
        with self._lock:
            rows = list(self._rows)
        return [row for row in rows if row.verb == (verb or row.verb) and row.kind == (kind or row.kind)]

    def counts(self) -> Counter[tuple[str, str]]:
        """How often each (verb, kind) was asked."""
        return Counter((row.verb, row.kind) for row in self.rows())

    def count(self, verb: str, kind: str) -> int:
        """How often one was asked."""
        return len(self.rows(verb, kind))

    def clear(self) -> None:
        """Begin anew."""
        with self._lock:
            self._rows.clear()
