"""Messages from a stage to its orchestrator, in Dagster Pipes' wire format: one JSON object a line.

On a disk they are appended to one file; in a store they are small objects in a folder, numbered, which
`relay.py` writes from that file. Both can be read again from the start, by anyone, while they are being
written: nothing is truncated, a half-written line is left for the next look. A stage that is started again
in the same attempt goes on in the same file or folder with a session of its own (``opened`` … ``closed``).
Our own events travel as Pipes' custom messages (`reporting.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_ENV_VAR,
    PIPES_PROTOCOL_VERSION,
    PIPES_PROTOCOL_VERSION_FIELD,
    PipesContext,
    PipesDefaultContextLoader,
    PipesMessage,
    PipesMessageWriter,
    PipesMessageWriterChannel,
    PipesParams,
    PipesParamsLoader,
    decode_param,
)

from codellm_dag.store.store import Store

Message = Mapping[str, Any]
"""A Pipes message: ``__dagster_pipes_version``, ``method`` and ``params``."""

_NO_ORCHESTRATOR: dict[str, Any] = {
    "asset_keys": None,
    "code_version_by_asset_key": None,
    "provenance_by_asset_key": None,
    "partition_key": None,
    "partition_key_range": None,
    "partition_time_window": None,
    "run_id": "",
    "job_name": None,
    "retry_number": 0,
    "extras": {},
}


class MessageReader(Protocol):
    """Where an orchestrator reads a stage's messages."""

    def read(self) -> list[Message]:
        """The messages that came since the last call."""
        ...


class FileChannel(PipesMessageWriterChannel):
    """Appends each message to a file in one write, so that processes may share it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write_message(self, message: PipesMessage) -> None:
        """Append one line."""
        data = (json.dumps(message) + "\n").encode()
        while data:
            data = data[os.write(self._descriptor, data) :]


class StoreWriter:
    """Appends to a folder of a store: each write is one object, numbered on from what is there.

    Numbers have no gaps and an object never changes, so a reader that has seen n needs to ask for n + 1 only.
    """

    def __init__(self, store: Store, folder: str) -> None:
        self._backend = store.backend
        self._folder = folder
        self._next: int | None = None

    def write(self, lines: bytes) -> None:
        """Write one object, once. Raises StoreError; then the same write may be tried again."""
        if self._next is None:
            self._next = len(self._backend.children(self._folder)) + 1
        while True:
            path = f"{self._folder}/{self._next:08d}.jsonl"
            # What is there may be this very write, whose answer was lost.
            done = self._backend.create(path, lines) or self._backend.read(path) == lines
            self._next += 1
            if done:
                return


class CallChannel(PipesMessageWriterChannel):
    """Hands each message to a function in this process."""

    def __init__(self, handle: Callable[[Message], None]) -> None:
        self._handle = handle

    def write_message(self, message: PipesMessage) -> None:
        """Hand over a copy as it would look after a trip through JSON."""
        self._handle(json.loads(json.dumps(message)))


class _Writer(PipesMessageWriter[PipesMessageWriterChannel]):
    def __init__(self, channel: PipesMessageWriterChannel) -> None:
        self._channel = channel

    @contextmanager
    def open(self, params: PipesParams) -> Iterator[PipesMessageWriterChannel]:
        del params
        yield self._channel

    def get_opened_extras(self) -> Mapping[str, Any]:
        return {"pid": os.getpid()}


class _Params(PipesParamsLoader):
    """Dagster's context if Dagster gave one through the environment, else an empty one."""

    def is_dagster_pipes_process(self) -> bool:
        return True

    def load_context_params(self) -> PipesParams:
        given = os.environ.get(DAGSTER_PIPES_CONTEXT_ENV_VAR)
        return decode_param(given) if given else {PipesDefaultContextLoader.DIRECT_KEY: _NO_ORCHESTRATOR}

    def load_messages_params(self) -> PipesParams:
        return {}


def custom_message(payload: Mapping[str, Any]) -> bytes:
    """A line with an event of our own, for a process that has no session."""
    message = {
        PIPES_PROTOCOL_VERSION_FIELD: PIPES_PROTOCOL_VERSION,
        "method": "report_custom_message",
        "params": {"payload": payload},
    }
    return (json.dumps(message) + "\n").encode()


def open_session(channel: PipesMessageWriterChannel) -> PipesContext:
    """A Pipes context that writes to `channel`; close it with the exception, if any."""
    return PipesContext(_Params(), PipesDefaultContextLoader(), _Writer(channel))


class FileReader:
    """Reads a `FileChannel`'s file from the start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Message]:
        """Whole lines that came since the last call."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(self._offset)
                data = stream.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return _parse(whole)


class StoreReader:
    """Reads what `StoreWriter` wrote from the first object on: one listing, then one request a look."""

    def __init__(self, store: Store, folder: str) -> None:
        self._backend = store.backend
        self._folder = folder
        self._last = ""

    def read(self) -> list[Message]:
        """The messages of objects that came since the last call, in order."""
        messages: list[Message] = []
        if not self._last:
            names = self._backend.children(self._folder)
            for data in self._backend.read_many([f"{self._folder}/{name}" for name in names]):
                messages.extend(_parse(data))
            self._last = names[-1] if names else ""
        while self._last:
            name = f"{int(self._last.removesuffix('.jsonl')) + 1:08d}.jsonl"
            try:
                messages.extend(_parse(self._backend.read(f"{self._folder}/{name}")))
            except FileNotFoundError:
                break
            self._last = name
        return messages


def _parse(data: bytes) -> list[Message]:
    messages = []
    for line in data.splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue  # a line torn by a kill; the closing message tells whether the stage ended well
        if isinstance(message, dict) and "method" in message:
            messages.append(message)
    return messages
