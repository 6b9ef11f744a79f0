"""`Bed`: the API server, the controllers and the kubelet together, in this process."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.cluster.bed.api import Api
from tests.cluster.bed.controllers import Controllers
from tests.cluster.bed.events import Recorder
from tests.cluster.bed.faults import Faults
from tests.cluster.bed.garbage import GarbageCollector
from tests.cluster.bed.jobs import JobController
from tests.cluster.bed.journal import Journal
from tests.cluster.bed.kubelet import steps
from tests.cluster.bed.kubelet.kubelet import Kubelet, Rule
from tests.cluster.bed.kubelet.logs import Logs
from tests.cluster.bed.kubelet.process import ProcessRuntime
from tests.cluster.bed.kubelet.worker import Step
from tests.cluster.bed.resources import NAMESPACES, RESOURCES, Object
from tests.cluster.bed.server import Server
from tests.cluster.bed.storage import Storage


class Bed:
    """A cluster for tests; see the README beside this file. Use it as a context manager.

    `environment` is what the image of process pods would set. `runtime` is a step that runs a pod's
    containers; by default as processes of this machine.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        namespaces: Iterable[str] = ("default",),
        environment: Mapping[str, str] | None = None,
        runtime: Step | None = None,
        backoff_seconds: float = 0.05,
        bookmark_seconds: float = 60.0,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="bed-") if folder is None else None
        self.folder = folder or Path(self._temporary.name if self._temporary else "")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.faults = Faults()
        self.journal = Journal()
        self.storage = Storage()
        logs = Logs(self.folder / "logs")
        self.api = Api(self.storage, logs.read)
        run = runtime or ProcessRuntime(self.storage, self.folder / "pods", environment or {}).run
        self.kubelet = Kubelet(self.storage, logs, (steps.schedule(), run))
        recorder = Recorder(self.storage, "job-controller")
        self._controllers = Controllers(
            self.storage,
            GarbageCollector(self.storage),
            lambda again: JobController(self.api, recorder, again, backoff_seconds),
            self.kubelet.on_pod,
        )
        for name in namespaces:
            self.api.create(NAMESPACES, "", {"metadata": {"name": name}})
        self._server = Server(self.api, self.faults, self.journal, bookmark_seconds)
        self.url = self._server.url

    def __enter__(self) -> Bed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all pods and close the port."""
        self._server.stop()
        self._controllers.stop()
        self.kubelet.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def problems(self) -> list[str]:
        """Tracebacks of the bed itself; empty if it works."""
        return [*self._controllers.problems, *self.kubelet.problems]

    def kubeconfig(self, namespace: str = "default") -> Path:
        """Write a kubeconfig."""
        path = self.folder / "kubeconfig"
        cluster = {"name": "bed", "cluster": {"server": self.url}}
        context = {"name": "bed", "context": {"cluster": "bed", "user": "test", "namespace": namespace}}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [cluster],
            "users": [{"name": "test", "user": {"token": "test"}}],
            "contexts": [context],
            "current-context": "bed",
        }
        path.write_text(json.dumps(content, indent=1))
        return path

    def script(
        self, pattern: str, *script: Step, index: int | None = None, attempt: int | None = None
    ) -> None:
        """Let pods of Jobs whose name fits `pattern` play `script`; the rule given last is asked first."""
        self.kubelet.script(Rule(pattern, index, attempt, script))

    def otherwise(self, *script: Step) -> None:
        """What pods play that no rule is for, instead of really running their containers."""
        self.kubelet.default = script

    def objects(self, plural: str, namespace: str = "", group: str = "") -> list[Object]:
        """What is stored of a kind, in the order of creation, without a request."""
        kinds = [r for r in RESOURCES if r.plural == plural and (not group or r.group == group)]
        found = [stored.item for kind in kinds for stored in self.storage.all(kind, namespace)]
        return sorted(found, key=lambda item: self.storage.births[item["metadata"]["uid"]])

    def get(self, plural: str, name: str, namespace: str = "default") -> Object:
        """One object. Raises KeyError."""
        for item in self.objects(plural, namespace):
            if item["metadata"]["name"] == name:
                return item
        raise KeyError(f"{plural} {namespace}/{name}")

    def pods(self, job: str = "", namespace: str = "") -> list[Object]:
        """Pods, of one Job if it is named, in the order of their creation."""
        return [
            pod
            for pod in self.objects("pods", namespace)
            if not job or (pod["metadata"].get("labels") or {}).get("job-name") == job
        ]

    def summary(self) -> str:
        """Jobs, pods, warnings and the bed's own problems, for the message of a test that failed."""
        lines = []
        for item in [*self.objects("jobs"), *self.objects("pods")]:
            status = {name: value for name, value in item["status"].items() if name != "conditions"}
            found = [
                f"{c['type']}={c['status']} {c.get('reason', '')}"
                for c in item["status"].get("conditions", ())
            ]
            lines.append(f"{item['kind']} {item['metadata']['name']}: {status} {found}")
        events = [event for event in self.objects("events") if event["type"] == "Warning"]
        lines += [f"{event['involvedObject']['name']}: {event['message']}" for event in events[-10:]]
        return "\n".join([*lines, *self.problems])

    def edit(
        self, plural: str, name: str, change: Callable[[Object], Any], namespace: str = "default"
    ) -> None:
        """Change an object behind the API's back (as a controller would), e.g. unsuspend a Job."""
        for kind in RESOURCES:
            if kind.plural == plural:

                def apply(item: Object) -> Object:
                    change(item)
                    return item

                self.storage.update(kind, (namespace if kind.namespaced else "", name), apply)

    def expire(self, *plurals: str) -> None:
        """Forget the history: watches and lists from an older resourceVersion get 410."""
        self.storage.forget([kind for kind in RESOURCES if not plurals or kind.plural in plurals])

    def wait(self, condition: Callable[[], Any], seconds: float = 20.0, what: str = "") -> Any:
        """Wait until `condition()` is true and return it (KeyError: not yet); fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                value = condition()
            except KeyError:
                value = None
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what or condition}\n{self.summary()}")
            time.sleep(0.005)
