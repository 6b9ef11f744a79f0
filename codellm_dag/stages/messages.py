"""Messages from a stage to its orchestrator, in Dagster Pipes' wire format: one JSON object a line.

On a disk they are appended to one file; in a store they are small objects in a folder, numbered. Both can be
read again from the start, by anyone, while they are being written: nothing is truncated, a half-written
line is left for the next look. Our own events travel as Pipes' custom messages (`reporting.py`).
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any, Protocol

from dagster_pipes import (
    DAGSTER_PIPES_CONTEXT_ENV_VAR,
    PipesBlobStoreMessageWriterChannel,
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


class StoreChannel(PipesBlobStoreMessageWriterChannel):
    """Writes what came in the last two seconds as one object; a restarted process goes on counting."""

    def __init__(self, store: Store, folder: str) -> None:
        super().__init__(interval=1)
        self._store = store
        self._folder = folder
        self._counter = len(store.backend.children(folder)) + 1

    def upload_messages_chunk(self, payload: StringIO, index: int) -> None:
        """Write one object, trying again for half a minute."""
        data = payload.getvalue().encode() + b"\n"
        for pause in (0.5, 1, 2, 4, 8, 16, None):
            try:
                if self._store.backend.create(f"{self._folder}/{index:08d}.jsonl", data):
                    return
                index = self._counter = self._counter + 1
            except Exception:
                if pause is None:
                    raise
                time.sleep(pause)


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
        if isinstance(self._channel, PipesBlobStoreMessageWriterChannel):
            with self._channel.buffered_upload_loop():
                yield self._channel
        else:
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
    """Reads a `StoreChannel`'s objects from the first."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder
        self._seen: set[str] = set()

    def read(self) -> list[Message]:
        """The messages of objects that came since the last call, in order."""
        messages: list[Message] = []
        for name in self._store.backend.children(self._folder):
            if name not in self._seen:
                messages.extend(_parse(self._store.backend.read(f"{self._folder}/{name}")))
                self._seen.add(name)
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
