"""The launchers that the conformance suite runs on: this machine, the test cluster, or a real cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codellm_dag.launch import Launcher, LocalLauncher, RemoteLauncher
from codellm_dag.launch.kubernetes.api import Api
from codellm_dag.launch.kubernetes.kinds import JOB, POD, SERVICE
from codellm_dag.launch.kubernetes.launcher import KubernetesLauncher
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.store import Store
from tests.cluster.bed import Bed

ROOT = Path(__file__).resolve().parents[2]
MANAGED = "app.kubernetes.io/managed-by=codellm-dag"

__all__ = ["MANAGED", "ROOT", "Place", "on_bed", "on_cluster", "on_this_machine"]


@dataclass
class Place:
    """Where stages run. `variables` make another process run them in the same place."""

    name: str
    store: Store
    runtime: Runtime
    launcher: Callable[[], Launcher | RemoteLauncher]
    left: Callable[[], list[str]]
    variables: dict[str, str] = field(default_factory=dict)
    bed: Bed | None = None


def pod_values(namespace: str = "default", **more: Any) -> dict[str, Any]:
    """A small pod that gives up soon."""
    deadlines = dict.fromkeys(("admission", "scheduling", "pull", "start", "silence"), 120) | {"run": 600}
    values = {"image": "registry.example/stage:1", "namespace": namespace, "allow_dirty": True, "cpu": "1"}
    values |= {"memory": "2Gi", "grace_seconds": 5, "infra_retries": 1, "deadlines": deadlines}
    return values | more


@contextmanager
def on_this_machine(folder: Path) -> Iterator[Place]:
    """The local launcher."""
    yield Place(
        "local",
        Store(folder / "store"),
        Runtime(threads=1, workers=1),
        lambda: LocalLauncher(poll_seconds=0.05),
        list,
        {"CODELLM_LAUNCHER": "local"},
    )


@contextmanager
def on_bed(folder: Path) -> Iterator[Place]:
    """The Kubernetes launcher on the test cluster, whose pods are processes of this machine."""
    environment = {"PYTHONPATH": str(ROOT), "CODELLM_CACHE": str(folder / "cache")}
    with Bed(folder / "bed", environment=environment) as bed:
        yield _kubernetes(str(bed.kubeconfig()), Store(folder / "store"), pod_values(), bed)
        assert bed.problems == []


@contextmanager
def on_cluster(kubeconfig: str, store: str, **values: Any) -> Iterator[Place]:
    """The Kubernetes launcher on a real cluster, with a store that its pods reach."""
    yield _kubernetes(kubeconfig, Store(store), pod_values(**values), None)


def _kubernetes(kubeconfig: str, store: Store, values: dict[str, Any], bed: Bed | None) -> Place:
    def connect() -> Api:
        return Api.connect(kubeconfig, timeout=5, budget=30)

    return Place(
        "kubernetes",
        store,
        Runtime(threads=1, workers=1, kubernetes=PodShape.model_validate(values)),
        lambda: KubernetesLauncher(connect(), message_seconds=0.1, watch_seconds=30),
        lambda: left_in(kubeconfig, values["namespace"]),
        {"CODELLM_LAUNCHER": "kubernetes", "KUBECONFIG": kubeconfig},
        bed,
    )


def left_in(kubeconfig: str, namespace: str) -> list[str]:
    """Objects of ours that would not go by themselves: unfinished Jobs, pods that run, Services alone."""
    api = Api.connect(kubeconfig, timeout=5, budget=30)
    jobs = {job["metadata"]["name"]: job for job in api.list(JOB, namespace, MANAGED)[0]}
    found = [f"job {name}" for name, job in jobs.items() if not _ended(job)]
    for pod in api.list(POD, namespace, MANAGED)[0]:
        if pod["status"].get("phase") not in ("Succeeded", "Failed"):
            found.append(f"pod {pod['metadata']['name']}")
    services = [item["metadata"]["name"] for item in api.list(SERVICE, namespace, MANAGED)[0]]
    return found + [f"service {name}" for name in services if name not in jobs]


def _ended(job: dict[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions") or ()
    return any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
