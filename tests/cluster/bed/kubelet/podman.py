"""Runs pods with ``podman kube play``: real namespaces, limits, network and signals. Needs root.

There is no registry, so every image is the same: empty folders, into which the machine's ``/usr``, the
running Python with its packages and the source tree are mounted read-only. Names of the group's pods are
written to ``/etc/hosts``, where each hostname keeps its address: what the headless Service's DNS says in a
cluster. Init containers are not run.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.cluster.bed.kubelet import containers, pod_status
from tests.cluster.bed.kubelet.engine import IMAGE, Podman
from tests.cluster.bed.kubelet.kernel_log import killed_for_memory
from tests.cluster.bed.kubelet.process import fill_volume, has_service
from tests.cluster.bed.kubelet.worker import Stopped, Worker
from tests.cluster.bed.resources import Object
from tests.cluster.bed.storage import Storage

_ROOT = Path(__file__).resolve().parents[4]
_POLL = 0.05


class PodmanRuntime:
    """`run` is the step that runs a pod's containers to their end.

    `mounts` are folders of this machine that pods see under the same path and may write to.
    """

    def __init__(self, engine: Podman, environment: Mapping[str, str], mounts: Iterable[Path] = ()) -> None:
        self.engine = engine
        self._environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **environment}
        self._mounts = [str(path) for path in mounts]

    def run(self, worker: Worker) -> None:
        """Play the pod, follow it to its end, remove it."""
        storage = worker.kubelet.storage
        try:
            played = self._play(worker, storage)
        except (containers.ConfigError, RuntimeError) as error:
            text = str(error)
            self.engine("pod", "rm", "--force", "--time", "0", worker.key[1], check=False)
            worker.update(lambda pod: pod_status.waiting(pod, "CreateContainerError", text))
            worker.event("Failed", f"Error: {text}", "Warning")
            worker.sleep(None)
            return
        worker.kill = lambda grace: self._kill(worker, played, grace)
        for container in played:
            container.begun()
        while not all(container.done for container in played):
            if worker.stopping.wait(_POLL):
                raise Stopped
            for container in played:
                container.look()
        worker.kill = None
        self._remove(worker)
        codes = [container.code for container in played]
        worker.update(lambda pod: pod_status.ended(pod, "Failed" if any(codes) else "Succeeded"))

    def _play(self, worker: Worker, storage: Storage) -> list[_Container]:
        pod = worker.pod
        named = has_service(storage, worker)
        manifest = self.manifest(storage, pod, self.engine.folder / "pods" / worker.uid, named)
        hostname = manifest["spec"]["hostname"]
        self.engine("pod", "rm", "--force", "--time", "0", worker.key[1], check=False)
        self.engine(
            *("kube", "play", "--network", self.engine.network, "--ip", self.engine.address(hostname)),
            *("--log-driver", "k8s-file", "-"),
            stdin=json.dumps(manifest).encode(),  # which is YAML, and keeps newlines in one line
        )
        worker.address = self.engine.address(hostname)
        return [_Container(self.engine, worker, container) for container in pod["spec"]["containers"]]

    def manifest(self, storage: Storage, pod: Object, folder: Path, named: bool) -> Object:
        """What podman is given: variables worked out, one image, volumes as folders, hosts by name."""
        spec = pod["spec"]
        hostname = spec.get("hostname") or pod["metadata"]["name"]
        base = [Path("/usr"), Path(sys.prefix), Path(sys.base_prefix), _ROOT]
        given = [(str(path), True) for path in base] + [(path, False) for path in self._mounts]
        system: list[Object] = [
            {"name": f"system-{n}", "hostPath": {"path": p}} for n, (p, _) in enumerate(given)
        ]
        mounts = [
            {"name": f"system-{number}", "mountPath": path, "readOnly": read_only}
            for number, (path, read_only) in enumerate(given)
        ]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod["metadata"]["name"]},
            "spec": {
                "hostname": hostname,
                "restartPolicy": "Never",
                "hostAliases": self._hosts(pod, hostname) if named else [],
                "securityContext": spec.get("securityContext", {}),
                "volumes": [
                    *system,
                    *(self._volume(storage, pod, v, folder) for v in spec.get("volumes", ())),
                ],
                "containers": [self._container(storage, pod, c, mounts) for c in spec["containers"]],
            },
        }

    def _hosts(self, pod: Object, hostname: str) -> list[Object]:
        service, namespace = pod["spec"]["subdomain"], pod["metadata"]["namespace"]
        stem = hostname.rpartition("-")[0]
        names = [f"{stem}-{index}" for index in range(16)] if stem else [hostname]
        suffixes = (service, f"{service}.{namespace}.svc.cluster.local")
        return [
            {"ip": self.engine.address(name), "hostnames": [f"{name}.{suffix}" for suffix in suffixes]}
            for name in names
        ]

    def _volume(self, storage: Storage, pod: Object, volume: Object, folder: Path) -> Object:
        if "hostPath" in volume:
            return {"name": volume["name"], "hostPath": {"path": volume["hostPath"]["path"]}}
        place = folder / volume["name"]
        fill_volume(storage, pod, volume, place)
        place.chmod(0o777)
        return {"name": volume["name"], "hostPath": {"path": str(place)}}

    def _container(self, storage: Storage, pod: Object, container: Object, mounts: list[Object]) -> Object:
        own = containers.environment(storage, pod, container)
        limits = container.get("resources", {}).get("limits", {})
        variables = {**self._environment, **own}
        return {
            "name": container["name"],
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "command": containers.command(container, own),
            "env": [{"name": name, "value": value} for name, value in variables.items()],
            "workingDir": container.get("workingDir", "/tmp"),
            "resources": {"limits": {name: limits[name] for name in ("cpu", "memory") if name in limits}},
            "securityContext": container.get("securityContext", {}),
            "volumeMounts": [*mounts, *container.get("volumeMounts", ())],
        }

    def _kill(self, worker: Worker, played: list[_Container], grace: float) -> None:
        names = [container.full_name for container in played if not container.done]
        if names:
            self.engine("stop", "--time", str(max(0, round(grace))), *names, check=False)
        for container in played:
            if not container.done and not worker.lost:
                container.close()
        self._remove(worker)

    def _remove(self, worker: Worker) -> None:
        self.engine("pod", "rm", "--force", "--time", "0", worker.key[1], check=False)
        shutil.rmtree(self.engine.folder / "pods" / worker.uid, ignore_errors=True)


class _Container:
    """One container that podman runs."""

    def __init__(self, engine: Podman, worker: Worker, container: Object) -> None:
        self._engine, self._worker = engine, worker
        self.name: str = container["name"]
        self.full_name = f"{worker.key[1]}-{self.name}"
        self.code = 0
        self.done = False
        self.runs = 0
        self._pid = 0
        self._log = Path()
        self._read = 0

    def begun(self) -> None:
        """The container was started."""
        state = self._inspect()
        self._pid, self._log = state["State"]["Pid"], Path(state["HostConfig"]["LogConfig"]["Path"])
        runs = self.runs
        self._worker.update(lambda pod: pod_status.running(pod, self._worker.address, self.name, runs))
        self._worker.event("Started", f"Started container {self.name}")

    def look(self) -> None:
        """Take over what it printed; notice its end; start it again if its pod's policy says so."""
        if self.done:
            return
        self._copy_log()
        if self._pid and Path(f"/proc/{self._pid}").exists():
            return
        self.close()
        policy = self._worker.pod["spec"]["restartPolicy"]
        if policy == "Always" or (policy == "OnFailure" and self.code):
            message = f"back-off restarting failed container={self.name}"
            self._worker.update(lambda pod: pod_status.waiting(pod, "CrashLoopBackOff", message, self.name))
            self._worker.event("BackOff", message, "Warning")
            self.runs += 1
            self.done = False
            self._engine("start", self.full_name)
            self.begun()

    def close(self) -> None:
        """It has ended: why, and with which code."""
        self.code = code = int(self._engine("wait", self.full_name).split()[-1])
        self._copy_log(last=True)
        state = self._inspect()
        memory = state["State"].get("OOMKilled") or (code == 137 and killed_for_memory(state["Id"]))
        reason = "OOMKilled" if memory else ""
        self._worker.update(lambda pod: pod_status.terminated(pod, code, reason, name=self.name))
        self.done = True

    def _inspect(self) -> Any:
        return json.loads(self._engine("inspect", "--type", "container", self.full_name))[0]

    def _copy_log(self, last: bool = False) -> None:
        """Lines of the CRI format ``time stream P|F text``; parts wait for the rest of their line."""
        if not self._log.is_file():
            return
        with self._log.open("rb") as stream:
            stream.seek(self._read)
            data = stream.read()
        whole, part, size = b"", b"", 0
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            _, _, kind, text = line.split(b" ", 3)
            part += text.rstrip(b"\n")
            size += len(line)
            if kind == b"F":
                whole, part, self._read, size = whole + part + b"\n", b"", self._read + size, 0
        text = (whole + (part if last else b"")).decode("utf-8", "replace")
        self._worker.kubelet.logs.write(self._worker.pod_or_last, self.name, self.runs, text)
