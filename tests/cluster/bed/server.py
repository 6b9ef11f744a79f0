"""HTTP/1.1 on loopback around `Api`: paths, bodies, chunked watches, faults, the journal."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.cluster.bed import resources, watches
from tests.cluster.bed.api import Answer, Api, Call, selection
from tests.cluster.bed.errors import ApiError
from tests.cluster.bed.faults import Faults
from tests.cluster.bed.journal import Journal

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_OFFSET = re.compile(rb'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?\+00:00"')
_PLAIN = {"/healthz": b"ok", "/livez": b"ok", "/readyz": b"ok"}


def understand(method: str, path: str, body: Any = None, content_type: str = "") -> Call | None:
    """The call a request means, None if the path is not served."""
    parts = urlsplit(path)
    words = [word for word in parts.path.split("/") if word]
    if words[:1] == ["api"] and len(words) > 2:
        group, version, rest = "", words[1], words[2:]
    elif words[:1] == ["apis"] and len(words) > 3:
        group, version, rest = words[1], words[2], words[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource = resources.find(group, version, rest[0])
    if resource is None or len(rest) > 3 or (method == "POST" and resource.namespaced and not namespace):
        return None
    name, subresource = ([*rest[1:], "", ""])[:2]
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    verb = _VERBS.get(method, "get")
    if method == "GET" and not name:
        verb = "watch" if query.get("watch") in ("true", "1", "True") else "list"
    if method == "DELETE" and not name:
        verb = "deletecollection"
    return Call(verb, resource, namespace, name, subresource, query, body, content_type)


class Server:
    """Serves an `Api` at `url` until `stop`."""

    def __init__(self, api: Api, faults: Faults, journal: Journal, bookmark_seconds: float) -> None:
        self.api, self.faults, self.journal = api, faults, journal
        self.bookmark_seconds = bookmark_seconds
        self.stopped = threading.Event()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = _Http(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and all connections."""
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: Any) -> None:
        super().__init__(address, handler)
        self.connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are no news."""

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Dropped(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_: Any) -> None:
        """The journal keeps what there is to keep."""

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _serve(self) -> None:
        start = time.perf_counter()
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length) if length else b""
        plain = _PLAIN.get(urlsplit(self.path).path)
        if plain is not None:
            self._send(Answer(200, plain, content_type="text/plain"))
            return
        if self.path == "/version":
            version = {"major": "1", "minor": "37", "gitVersion": "v1.37.0-bed", "platform": "linux/amd64"}
            self._send(Answer(200, json.dumps(version).encode()))
            return
        call, code = None, 0
        try:
            call = self._understand(raw)
            code = self._answer(call)
        except ApiError as error:
            code = error.code
            self._refuse(error)
        except (_Dropped, watches.Broken, BrokenPipeError, ConnectionResetError):
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        finally:
            if call is not None and call.verb != "watch":
                seconds = time.perf_counter() - start
                self.owner.journal.add(call.verb, call.kind, call.namespace, call.name, code, seconds)

    def _understand(self, raw: bytes) -> Call:
        content_type = (self.headers.get("Content-Type") or "").partition(";")[0].strip()
        raw = _OFFSET.sub(rb'"\1Z"', raw)  # moments as Go writes them, however the client did
        try:
            body = json.loads(raw) if raw else None
        except ValueError as error:
            raise ApiError(400, f"couldn't read request body: {error}") from error
        call = understand(self.command, self.path, body, content_type)
        if call is None:
            raise ApiError(404, "the server could not find the requested resource", "NotFound")
        return call

    def _answer(self, call: Call) -> int:
        fault = self.owner.faults.take(call.verb, call.kind, call.name)
        if fault is not None:
            if fault.action == "stall":
                self.owner.stopped.wait(fault.seconds)
            elif fault.action == "drop":
                raise _Dropped
            elif fault.error is not None:
                if call.verb == "watch":
                    self._note_watch(call, fault.error.code)
                raise fault.error
        if call.verb == "watch":
            self._watch(call)
            return 200
        answer = self.owner.api.answer(call)
        if fault is not None and fault.action == "drop_answer":
            raise _Dropped
        self._send(answer)
        return answer.code

    def _note_watch(self, call: Call, code: int) -> None:
        self.owner.journal.add(call.verb, call.kind, call.namespace, call.name, code, 0.0)

    def _watch(self, call: Call) -> None:
        selection(call)  # a selector that does not parse is refused before the stream begins
        server = self.owner
        lines = watches.stream(
            server.api.storage, server.faults, call, server.stopped, server.bookmark_seconds
        )
        self._note_watch(call, 200)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        for line in lines:
            if line:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
            elif self._gone():
                raise _Dropped
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _gone(self) -> bool:
        """Whether the client has closed its end."""
        self.connection.setblocking(False)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return False
        finally:
            self.connection.setblocking(True)

    def _refuse(self, error: ApiError) -> None:
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
        self._send(Answer(error.code, json.dumps(error.status).encode()), headers)

    def _send(self, answer: Answer, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(answer.code)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for text in answer.warnings:
            self.send_header("Warning", f'299 - "{text}"')
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
        self.wfile.flush()
