"""What an API server answers: errors that pass and errors that do not, and the events of a watch."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

Object = dict[str, Any]


class ApiError(RuntimeError):
    """The API server refused a call, and asking again would not help."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class BrokenError(RuntimeError):
    """A call failed in a way that passes; `after` are seconds that the server asks to wait."""

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


class UnreachableError(RuntimeError):
    """The API server gave no answer for as long as we were willing to wait."""


class Stream:
    """A watch's events as they come. `close` may be called from another thread."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def __iter__(self) -> Iterator[Object]:
        try:
            with broken():
                for line in _lines(self._response):
                    event = json.loads(line)
                    if event.get("type") == "ERROR":
                        raise api_error(int(event["object"].get("code", 500)), event["object"])
                    yield event
        finally:
            self._response.close()
            self._response.release_conn()

    def close(self) -> None:
        """End the stream now, even while a thread waits for the next event."""
        connection = self._response.connection
        sock = getattr(connection, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def broken() -> Iterator[None]:
    """Broken connections, time-outs and answers that stop half-way pass."""
    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        raise BrokenError(f"{type(error).__name__}: {error}") from error


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    buffer = b""
    for chunk in response.stream(amt=None, decode_content=False):
        buffer += chunk
        *whole, buffer = buffer.split(b"\n")
        yield from (line for line in whole if line.strip())


def parsed(data: bytes) -> Object:
    """The JSON object of an answer; of anything else its beginning, as a message."""
    try:
        values = json.loads(data)
    except ValueError:
        values = None
    return values if isinstance(values, dict) else {"message": data[:500].decode("utf-8", "replace")}


def api_error(status: int, answer: Object) -> ApiError:
    """The error that a ``Status`` object tells of."""
    return ApiError(status, str(answer.get("reason") or "Error"), str(answer.get("message") or "").strip())


def seconds(header: str | None) -> float:
    """What a Retry-After header asks for."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0
