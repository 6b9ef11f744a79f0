"""Carries a stage's messages from its file to the store, and says meanwhile that its process is alive.

Runs in threads of the watcher, not of the stage: a stage that hangs or is killed leaves no message behind,
and training never waits for a store. Every `HEARTBEAT` seconds the watcher adds an event of its own::

    {"event": "heartbeat", "at": seconds since 1970, "advanced": seconds since 1970}

``at`` says that pod, watcher and store are alive. ``advanced`` is when the stage itself last said anything
(progress, points, a log line, …), at first when it was started: whoever waits for training to go on looks at
this one. The line that closes the session, and the ``failed`` event before it, are held back until `finish`:
who reads them may rely on everything else of the attempt being in the store.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from codellm_dag.stages.messages import StoreWriter, custom_message
from codellm_dag.store.errors import StoreError

HEARTBEAT = 30.0
"""Seconds between two heartbeats."""
_LOOK = 0.5  # seconds between two looks at the file
_YOUNG = 600.0  # seconds in which messages are carried at once, every two seconds; later every ten
_CLOSED = b'"method": "closed"'
_LAST = (_CLOSED, b'"event": "failed"')


class Relay:
    """Carries what is appended to `source`; `start` and `finish` it once."""

    def __init__(self, source: Path, target: StoreWriter, heartbeat: float = HEARTBEAT) -> None:
        self._source = source
        self._target = target
        self._heartbeat = heartbeat
        self._offset = 0
        self._pending = self._flying = self._last_word = b""
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name="relay", daemon=True)

    def start(self) -> None:
        """Begin, with a heartbeat."""
        self._begun = self._advanced = time.time()
        self._carried = self._beaten = 0.0
        self._thread.start()

    def say(self, **payload: object) -> None:
        """Add an event of the watcher's own."""
        with self._lock:
            self._pending += custom_message(payload)

    def finish(self, patience: float, last_word: bytes = b"") -> None:
        """Carry all that is left, trying again for `patience` seconds. Raises StoreError in the end.

        `last_word` is an event of the watcher's own that comes after all the stage said but its closing line.
        """
        self.stop()
        self._last_word = last_word
        deadline = time.monotonic() + patience
        while True:
            try:
                return self._carry(everything=True)
            except StoreError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK)

    def stop(self) -> None:
        """Carry no more."""
        self._over.set()
        self._thread.join()

    def _loop(self) -> None:
        pause = _LOOK
        while not self._over.wait(pause):
            try:
                self._turn(time.time())
                pause = _LOOK
            except StoreError as error:
                pause = min(2 * pause, 15.0)
                print(f"messages wait for the store: {error}", flush=True)

    def _turn(self, now: float) -> None:
        if now - self._beaten >= self._heartbeat:
            self._take()
            self.say(event="heartbeat", at=time.time(), advanced=self._advanced)
            self._beaten = now
            self._carry()
        elif now - self._carried >= (2.0 if now - self._begun < _YOUNG else 10.0):
            self._carry()

    def _carry(self, everything: bool = False) -> None:
        if self._flying:  # the same bytes again, so that they are there once if the answer was lost
            self._target.write(self._flying)
        self._take(everything)
        with self._lock:
            self._flying, self._pending = self._pending, b""
        if self._flying:
            self._target.write(self._flying)
            self._flying = b""
        self._carried = time.time()

    def _take(self, everything: bool = False) -> None:
        """Move whole lines from the file to what is pending; with `everything`, also those held back."""
        try:
            with self._source.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            data = b""
        data = data[: data.rfind(b"\n") + 1]
        if not everything:
            data = _before_the_end(data)
        self._offset += len(data)
        if data:
            self._advanced = time.time()
        if everything and self._last_word:
            closing = data.rfind(b"\n", 0, -1) + 1 if _CLOSED in data else len(data)
            data = data[:closing] + self._last_word + data[closing:]
            self._last_word = b""
        with self._lock:
            self._pending += data


def _before_the_end(data: bytes) -> bytes:
    """The lines before the first that tells how the stage ended."""
    kept = 0
    for line in data.splitlines(keepends=True):
        if any(mark in line for mark in _LAST):
            break
        kept += len(line)
    return data[:kept]
