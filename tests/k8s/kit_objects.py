"""The objects of the kit, and how the tests find them."""

from __future__ import annotations

from typing import Any

from tests.k8s.kustomize import whole_kit

KIT_OBJECTS = whole_kit()
CLUSTER_WIDE = {"Namespace", "ResourceFlavor", "ClusterQueue", "ClusterTrainingRuntime"}
STAGES_NAMESPACE = "codellm-dag"
DAGSTER_NAMESPACE = "dagster"

Object = dict[str, Any]


def of_kind(*kinds: str) -> list[Object]:
    return [item for item in KIT_OBJECTS if item["kind"] in kinds]


def names_of(kind: str, namespace: str | None = None) -> set[str]:
    """Names of a kind in the kit (in one namespace)."""
    found = of_kind(kind)
    return {o["metadata"]["name"] for o in found if namespace in (None, o["metadata"].get("namespace"))}


def pods_of_kit() -> list[tuple[str, Object, Object]]:
    """(namespace, metadata, pod spec) of everything in the kit that makes pods."""
    found = []
    for item in of_kind("DaemonSet"):
        template = item["spec"]["template"]
        found.append((item["metadata"]["namespace"], template["metadata"], template["spec"]))
    for item in of_kind("RayCluster"):
        for group in (item["spec"]["headGroupSpec"], *item["spec"]["workerGroupSpecs"]):
            found.append((item["metadata"]["namespace"], {}, group["template"]["spec"]))
    for item in of_kind("ClusterTrainingRuntime"):
        for job in item["spec"]["template"]["spec"]["replicatedJobs"]:
            found.append((STAGES_NAMESPACE, {}, job["template"]["spec"]["template"]["spec"]))
    return found
