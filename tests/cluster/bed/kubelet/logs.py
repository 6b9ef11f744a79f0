"""Container logs: kept in files with a timestamp before each line, read as ``pods/log`` reads them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from tests.cluster.bed.errors import ApiError
from tests.cluster.bed.resources import Object


class Logs:
    """Files ``<folder>/<pod uid>/<container>.<run>.log``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, pod: Object, container: str, run: int) -> Path:
        """The file of a container's `run`-th run, from 0."""
        path = self._folder / pod["metadata"]["uid"] / f"{container}.{run}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, pod: Object, container: str, run: int, text: str) -> None:
        """Append lines as if the container had printed them."""
        with self.path(pod, container, run).open("a") as stream:
            for line in text.splitlines():
                stream.write(f"{_now()} {line}\n")

    def pump(self, pod: Object, container: str, run: int, output: IO[bytes]) -> threading.Thread:
        """Copy a process' output as it comes; the thread ends with it."""

        def copy() -> None:
            with self.path(pod, container, run).open("ab", buffering=0) as stream:
                for line in output:
                    stream.write(_now().encode() + b" " + line.rstrip(b"\n") + b"\n")

        thread = threading.Thread(target=copy, daemon=True)
        thread.start()
        return thread

    def read(self, pod: Object, query: Mapping[str, str]) -> bytes:
        """Answer ``pods/log``. Raises ApiError 400 where the real one does."""
        name = self._container(pod, query.get("container", ""))
        meta = pod["metadata"]
        statuses = [
            *pod["status"].get("containerStatuses", ()),
            *pod["status"].get("initContainerStatuses", ()),
        ]
        status = next((entry for entry in statuses if entry["name"] == name), None)
        if status is None or ((waits := status["state"].get("waiting")) and not status["restartCount"]):
            reason = waits["reason"] if status else "ContainerCreating"
            raise ApiError(400, f'container "{name}" in pod "{meta["name"]}" is waiting to start: {reason}')
        if query.get("follow") == "true":
            raise ApiError(400, "this API does not follow logs")
        run = status["restartCount"] - (query.get("previous") == "true")
        if run < 0:
            raise ApiError(400, f'previous terminated container "{name}" in pod "{meta["name"]}" not found')
        path = self.path(pod, name, run)
        lines = path.read_bytes().splitlines() if path.exists() else []
        return _cut(lines, query)

    @staticmethod
    def _container(pod: Object, asked: str) -> str:
        containers = [entry["name"] for entry in pod["spec"]["containers"]]
        every = [*containers, *(entry["name"] for entry in pod["spec"].get("initContainers", ()))]
        meta = pod["metadata"]
        if not asked and len(containers) > 1:
            text = f"a container name must be specified for pod {meta['name']}"
            raise ApiError(400, f"{text}, choose one of: [{' '.join(containers)}]")
        if asked and asked not in every:
            raise ApiError(400, f"container {asked} is not valid for pod {meta['name']}")
        return asked or containers[0]


def _cut(lines: list[bytes], query: Mapping[str, str]) -> bytes:
    since = query.get("sinceTime")
    if seconds := query.get("sinceSeconds"):
        since = datetime.fromtimestamp(time.time() - float(seconds), UTC).isoformat().replace("+00:00", "Z")
    if since:
        lines = [line for line in lines if line >= since.encode()]
    if "tailLines" in query:
        count = int(query["tailLines"])
        lines = lines[-count:] if count else []
    if query.get("timestamps") != "true":
        lines = [line.partition(b" ")[2] for line in lines]
    data = b"".join(line + b"\n" for line in lines)
    return data[: int(query["limitBytes"])] if "limitBytes" in query else data


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "000Z")
