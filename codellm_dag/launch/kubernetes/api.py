"""The calls we make to a Kubernetes API server, each with a time-out, and with backoff where that can help.

Objects travel as plain JSON dictionaries, so that Job, JobSet and TrainJob take the same way. Connection,
credentials and TLS are the official client's (a kubeconfig, or the ServiceAccount of the pod we are in).
Repeated: 429 (after the time the server asks for), 5xx, broken connections and time-outs, until a budget of
seconds is used up; then `UnreachableError`. Everything else is an `ApiError` at once. Not covered: following
changes (`watch.py`).
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config
from kubernetes.config.config_exception import ConfigException

from codellm_dag.launch.errors import InvalidRequestError
from codellm_dag.launch.kubernetes.answers import (
    ApiError,
    BrokenError,
    Object,
    Stream,
    UnreachableError,
    api_error,
    broken,
    parsed,
    seconds,
)
from codellm_dag.launch.kubernetes.kinds import Kind, kind_of

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
_CONNECTIONS = 32
_PAGE = 500


class Api:
    """A cluster's API server. `timeout` is for one request, `budget` for all repetitions of a call."""

    def __init__(
        self,
        settings: client.Configuration,
        *,
        timeout: float = 30.0,
        budget: float = 600.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        settings.retries = False  # ours is the only backoff; urllib3's would hide what happened
        settings.connection_pool_maxsize = _CONNECTIONS
        self._client = client.ApiClient(settings)
        self._timeout = timeout
        self._sleep = sleep
        self.budget = budget
        self.calls: dict[str, int] = {}
        self._lock = threading.Lock()

    @classmethod
    def connect(cls, kubeconfig: str = "", context: str = "", **options: Any) -> Api:
        """From a kubeconfig (default: KUBECONFIG, ~/.kube/config), or else from within a pod.

        Raises InvalidRequestError if there is neither.
        """
        settings = client.Configuration()
        chosen = kubeconfig or os.environ.get("KUBECONFIG")  # the client looks at it once, at its import
        try:
            config.load_kube_config(chosen or None, context or None, settings)
        except ConfigException as first:
            if kubeconfig or context:
                raise InvalidRequestError(f"no connection to Kubernetes: {first}") from first
            try:
                config.load_incluster_config(settings)
            except ConfigException:
                raise InvalidRequestError(
                    f"no connection to Kubernetes: {first}; set KUBECONFIG, or run inside a cluster"
                ) from first
        return cls(settings, **options)

    @property
    def host(self) -> str:
        """Address of the server."""
        return str(self._client.configuration.host)

    def create(self, manifest: Object) -> Object | None:
        """Create an object; None if one of its name is there already."""
        kind = kind_of(manifest)
        path = kind.path(manifest["metadata"]["namespace"])
        try:
            return self._json("POST", path, body=manifest)
        except ApiError as error:
            if error.status == 409 and error.reason == "AlreadyExists":
                return None
            raise

    def get(self, kind: Kind, namespace: str, name: str, *, budget: float | None = None) -> Object | None:
        """One object, or None."""
        try:
            return self._json("GET", kind.path(namespace, name), budget=budget)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(
        self, kind: Kind, namespace: str, selector: str = "", *, budget: float | None = None
    ) -> tuple[list[Object], str]:
        """All objects that a label selector finds, and the resource version to watch from."""
        found: list[Object] = []
        query = {"limit": str(_PAGE), **({"labelSelector": selector} if selector else {})}
        while True:
            page = self._json("GET", kind.path(namespace), query, budget=budget)
            for item in page.get("items") or []:
                found.append({"apiVersion": kind.api_version, "kind": kind.name, **item})
            meta = page.get("metadata") or {}
            if not meta.get("continue"):
                return found, str(meta.get("resourceVersion", ""))
            query["continue"] = meta["continue"]

    def delete(
        self, kind: Kind, namespace: str, name: str, *, uid: str = "", budget: float | None = None
    ) -> bool:
        """Delete an object and, in the foreground, what it owns; False if it is not there.

        With `uid` only that very object, not one of the same name that came later.
        """
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self._json("DELETE", kind.path(namespace, name), body=body, budget=budget)
        except ApiError as error:
            if error.status == 404 or (error.status == 409 and uid):
                return False
            raise
        return True

    def log(self, namespace: str, pod: str, container: str, lines: int, *, previous: bool = False) -> str:
        """The last lines of a container; asked for once. Raises ApiError and UnreachableError."""
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(1 << 16)}
        if previous:
            query["previous"] = "true"
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        return self._call("GET", path, query, None, budget=0).decode("utf-8", "replace")

    def watch(
        self, kind: Kind, namespace: str, version: str, selector: str = "", lasting: int = 300
    ) -> Stream:
        """Changes after a resource version, until the server or the connection ends the stream.

        The server is asked to end it after `lasting` seconds; a connection silent for longer is dead.
        Raises ApiError (410: the version is too old, list again) and BrokenError; never waits.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(lasting),
            **({"labelSelector": selector} if selector else {}),
        }
        timeout = (self._timeout, lasting + self._timeout)
        with broken():
            return Stream(self._request("GET", kind.path(namespace), query, None, timeout))

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        budget: float | None = None,
    ) -> Object:
        budget = self.budget if budget is None else budget
        return json.loads(self._call(method, path, query, body, budget=budget) or b"{}")

    def _call(
        self, method: str, path: str, query: Mapping[str, str] | None, body: Object | None, *, budget: float
    ) -> bytes:
        """One call with backoff; the body of the answer."""
        began, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                with broken():
                    response = self._request(method, path, query, body, self._timeout)
                    try:
                        return response.data
                    finally:
                        response.release_conn()
            except BrokenError as again:
                wait = max(again.after, pause * random.uniform(0.5, 1.0))
                if time.monotonic() - began + wait > budget:
                    raise UnreachableError(
                        f"{method} {path} at {self.host} failed for {time.monotonic() - began:.0f} s: {again}"
                    ) from again
                self._sleep(wait)
                pause = min(pause * 2, _LONGEST_PAUSE)

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Object | None,
        timeout: float | tuple[float, float],
    ) -> urllib3.BaseHTTPResponse:
        """One request, with the client's connections and credentials only: its own methods differ by version.

        Raises BrokenError, ApiError, or what a broken connection raises.
        """
        with self._lock:
            self.calls[method] = self.calls.get(method, 0) + 1
        settings = self._client.configuration
        headers = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": "codellm-dag",
        }
        bearer = settings.auth_settings().get("BearerToken")  # it renews a token that ran out
        if bearer:
            headers[bearer["key"]] = bearer["value"] or ""
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        answer = self._client.rest_client.pool_manager.request(
            method,
            f"{self.host}{path}" + (f"?{urlencode(query)}" if query else ""),
            body=None if body is None else json.dumps(body),
            headers=headers,
            timeout=urllib3.Timeout(connect=connect, read=read),
            preload_content=False,
        )
        if 200 <= answer.status <= 299:
            return answer
        data = answer.data
        answer.release_conn()
        error = api_error(answer.status, parsed(data))
        if answer.status == 429 or answer.status >= 500:
            raise BrokenError(str(error), seconds(answer.headers.get("Retry-After")))
        raise error
