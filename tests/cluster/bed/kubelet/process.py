"""Runs a pod's containers as processes of this machine: no image, no isolation, no limits.

What stands for the image is the running Python with its packages (first on PATH) and `environment`. Volumes
are folders; where a variable or an argument begins with a mount path, that folder's path takes its place
(``/tmp`` and ``/dev/shm`` are the machine's own). Names of the group's pods (``<hostname>.<service>``) become
127.0.0.1 if their Service exists.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.bed.kubelet import containers, pod_status
from tests.cluster.bed.kubelet.worker import Stopped, Worker
from tests.cluster.bed.resources import CONFIG_MAPS, SECRETS, SERVICES, Object
from tests.cluster.bed.storage import Storage

_POLL = 0.02
_OWN_PLACES = ("/tmp", "/dev/shm")
_SYSTEM = ("HOME", "LANG", "LD_LIBRARY_PATH", "TZ")


class ProcessRuntime:
    """`run` is the step that runs a pod's containers to their end; restarts them as its policy says."""

    def __init__(
        self,
        storage: Storage,
        folder: Path,
        environment: Mapping[str, str],
        restart_seconds: float = 0.1,
    ) -> None:
        self._storage = storage
        self._folder = folder
        self._environment = dict(environment)
        self._restart_seconds = restart_seconds

    def run(self, worker: Worker) -> None:
        """Init containers one by one, then all containers; ends the pod as they end."""
        pod = worker.pod
        try:
            for container in pod["spec"].get("initContainers", ()):
                code = self._together(worker, [container])
                if code:
                    worker.finish(code)
                    return
            if self._together(worker, pod["spec"]["containers"]) is not None:
                codes = [
                    s["state"]["terminated"]["exitCode"] for s in worker.pod["status"]["containerStatuses"]
                ]
                phase = "Failed" if any(codes) else "Succeeded"
                worker.update(lambda pod: pod_status.ended(pod, phase))
        except containers.ConfigError as error:
            text = str(error)
            worker.update(lambda pod: pod_status.waiting(pod, "CreateContainerConfigError", text))
            worker.event("Failed", f"Error: {text}", "Warning")
            worker.sleep(None)
        finally:
            if not worker.stopping.is_set():
                shutil.rmtree(self._folder / worker.uid, ignore_errors=True)

    def _together(self, worker: Worker, group: list[Object]) -> int | None:
        """Run containers side by side until all have ended for good; the worst exit code."""
        prepared = [_Container(self, worker, container) for container in group]
        for container in prepared:
            container.begin()
        worker.kill = lambda grace: _kill(prepared, grace)
        while not all(container.done for container in prepared):
            if worker.stopping.wait(_POLL):
                raise Stopped
            for container in prepared:
                container.look()
        worker.kill = None
        return max((container.code or 0 for container in prepared), key=abs)

    def prepare(self, worker: Worker, container: Object) -> tuple[list[str], dict[str, str], Path]:
        """Command, variables and working folder of a container."""
        pod = worker.pod
        mounts = self._mounts(worker, pod, container)
        own = containers.environment(self._storage, pod, container)
        words = containers.command(container, own)
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        system = {name: os.environ[name] for name in _SYSTEM if name in os.environ}
        hostname = pod["spec"].get("hostname") or pod["metadata"]["name"]
        variables = {**system, "PATH": path, **self._environment, "HOSTNAME": hostname}
        names = self._names(worker, pod)
        place = {name: self._translate(value, mounts, names) for name, value in own.items()}
        folder = self._folder / worker.uid
        return [self._translate(word, mounts, names) for word in words], {**variables, **place}, folder

    def _mounts(self, worker: Worker, pod: Object, container: Object) -> dict[str, str]:
        """Mount path → folder, the longest path first."""
        root = self._folder / worker.uid
        root.mkdir(parents=True, exist_ok=True)
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
        found: dict[str, str] = {}
        for mount in container.get("volumeMounts", ()):
            volume = volumes[mount["name"]]
            place = root / "volumes" / mount["name"]
            if "hostPath" in volume:
                place = Path(volume["hostPath"]["path"])
            else:
                fill_volume(self._storage, pod, volume, place)
            if mount["mountPath"] not in _OWN_PLACES:
                found[mount["mountPath"]] = str(place / mount.get("subPath", ""))
        return dict(sorted(found.items(), key=lambda item: -len(item[0])))

    def _names(self, worker: Worker, pod: Object) -> str:
        """A pattern of the names that the pods of the group have; empty if no Service gives them any."""
        if not has_service(self._storage, worker):
            return ""
        domain = rf"(\.{pod['metadata']['namespace']}(\.svc(\.cluster\.local)?)?)?"
        return rf"[a-z0-9-]+\.{re.escape(pod['spec']['subdomain'])}{domain}"

    def _translate(self, text: str, mounts: Mapping[str, str], names: str) -> str:
        for path, place in mounts.items():
            if text == path or text.startswith(path.rstrip("/") + "/"):
                text = place + text[len(path) :]
                break
        return re.sub(rf"(?<![\w.-]){names}(?![\w.-])", "127.0.0.1", text) if names else text

    @property
    def restart_seconds(self) -> float:
        """The pause before a container is started again (the real one: 10, doubling)."""
        return self._restart_seconds


def has_service(storage: Storage, worker: Worker, seconds: float = 2.0) -> bool:
    """Whether the Service that the pod's subdomain names is there, or comes in a moment.

    Names are given once, at the start, where a cluster's DNS would go on answering.
    """
    pod = worker.pod
    service = pod["spec"].get("subdomain")
    if not service:
        return False
    deadline = time.monotonic() + seconds
    while storage.get(SERVICES, (pod["metadata"]["namespace"], service)) is None:
        if time.monotonic() > deadline:
            return False
        worker.sleep(0.02)
    return True


def fill_volume(storage: Storage, pod: Object, volume: Object, place: Path) -> None:
    """Make the folder of an emptyDir, Secret or ConfigMap volume. Raises ConfigError for other kinds."""
    place.mkdir(parents=True, exist_ok=True)
    if "emptyDir" in volume:
        return
    for field, name, resource in (("secret", "secretName", SECRETS), ("configMap", "name", CONFIG_MAPS)):
        if field in volume:
            item = storage.get(resource, (pod["metadata"]["namespace"], volume[field][name]))
            if item is None:
                text = f'MountVolume.SetUp failed: {resource.kind.lower()} "{volume[field][name]}" not found'
                raise containers.ConfigError(text)
            for key, value in (item.get("data") or {}).items():
                data = base64.b64decode(value) if resource == SECRETS else value.encode()
                (place / key).write_bytes(data)
            return
    kind = next((name for name in volume if name != "name"), "?")
    raise containers.ConfigError(f"volume {volume['name']}: there is no {kind} here")


class _Container:
    """One container of a pod: its process, started again if need be."""

    def __init__(self, runtime: ProcessRuntime, worker: Worker, container: Object) -> None:
        self.runtime, self.worker, self.container = runtime, worker, container
        self.name: str = container["name"]
        self.code: int | None = None
        self.done = False
        self.runs = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._pump: threading.Thread | None = None
        self._again_at = 0.0

    def begin(self) -> None:
        """Start the process."""
        words, variables, folder = self.runtime.prepare(self.worker, self.container)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self.process = subprocess.Popen(
                words,
                env=variables,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._failed_to_start(str(error))
            return
        assert self.process.stdout is not None
        pod = self.worker.pod
        self._pump = self.worker.kubelet.logs.pump(pod, self.name, self.runs, self.process.stdout)
        runs = self.runs
        self.worker.update(lambda pod: pod_status.running(pod, self.worker.address, self.name, runs))
        self.worker.event("Started", f"Started container {self.name}")

    def _failed_to_start(self, why: str) -> None:
        message = f"failed to create containerd task: exec: {why}"
        self.worker.update(lambda pod: pod_status.terminated(pod, 128, "StartError", message, self.name))
        self.worker.event("Failed", f"Error: {message}", "Warning")
        self.code, self.done = 128, True

    def look(self) -> None:
        """Notice an end; start again when that is due."""
        if self.done:
            return
        if self.process is None:
            if time.monotonic() >= self._again_at:
                self.runs += 1
                self.begin()
            return
        if self.process.poll() is None:
            return
        self.close()
        policy = self.worker.pod["spec"]["restartPolicy"]
        if policy == "Always" or (policy == "OnFailure" and self.code):
            self._back_off()
        else:
            self.done = True

    def _back_off(self) -> None:
        pause = self.runtime.restart_seconds * 2**self.runs
        message = f"back-off {pause:g}s restarting failed container={self.name}"
        self.worker.update(lambda pod: pod_status.waiting(pod, "CrashLoopBackOff", message, self.name))
        self.worker.event("BackOff", message, "Warning")
        self.process, self._again_at = None, time.monotonic() + pause

    def close(self) -> None:
        """The process has ended: no other of its session lives on; write its status."""
        assert self.process is not None
        _signal(self.process, signal.SIGKILL, group=True)
        if self._pump is not None:
            self._pump.join(1)
        code = self.process.wait()
        self.code = code if code >= 0 else 128 - code
        ended = self.code
        self.worker.update(lambda pod: pod_status.terminated(pod, ended, name=self.name))


def _kill(prepared: list[_Container], grace: float) -> None:
    """SIGTERM to each container's first process, SIGKILL to all after the grace."""
    running = [c for c in prepared if not c.done and c.process is not None]
    if grace > 0:
        for container in running:
            assert container.process is not None
            _signal(container.process, signal.SIGTERM)
    end = time.monotonic() + grace
    while time.monotonic() < end and any(c.process is not None and c.process.poll() is None for c in running):
        time.sleep(_POLL)
    for container in running:
        assert container.process is not None
        _signal(container.process, signal.SIGKILL, group=True)
        if not container.worker.lost:
            container.close()
        container.process.wait()
        container.done = True


def _signal(process: subprocess.Popen[bytes], number: signal.Signals, group: bool = False) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
