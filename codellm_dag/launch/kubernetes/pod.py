"""The pod template of a group: one container, confined, on scratch disks of its own."""

from __future__ import annotations

from typing import Any

from codellm_dag.launch.kubernetes import names
from codellm_dag.launch.kubernetes.group import PodGroup
from codellm_dag.launch.kubernetes.template import merge, read_template
from codellm_dag.recipes.pods import PodShape

SCRATCH = "/scratch"
"""The only large place a stage can write: home, caches, temporary files."""

_REQUIRED_TOPOLOGY = "kueue.x-k8s.io/podset-required-topology"
_PREFERRED_TOPOLOGY = "kueue.x-k8s.io/podset-preferred-topology"


def pod_template(group: PodGroup) -> dict[str, Any]:
    """``{metadata, spec}`` of the group's pods, laid over the team's pod template if the shape names one."""
    shape = group.shape
    ours = {
        "metadata": {
            "labels": {**shape.labels, **group.labels},
            "annotations": {**shape.annotations, **group.annotations, **_topology_annotations(shape)},
        },
        "spec": _pod_spec(group),
    }
    return merge(read_template(shape.pod_template), ours) if shape.pod_template else ours


def _pod_spec(group: PodGroup) -> dict[str, Any]:
    shape = group.shape
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": shape.grace_seconds,
        "serviceAccountName": shape.service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _pod_security(shape),
        "containers": [_container(group)],
        "volumes": _volumes(shape),
    }
    if shape.nodes > 1 and shape.form == "job":
        spec["subdomain"] = group.name
    if shape.node_selector:
        spec["nodeSelector"] = dict(shape.node_selector)
    if shape.tolerations:
        spec["tolerations"] = [taint.model_dump(exclude_none=True) for taint in shape.tolerations]
    if shape.priority_class:
        spec["priorityClassName"] = shape.priority_class
    if shape.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in shape.image_pull_secrets]
    if affinity := _affinity(group):
        spec["affinity"] = affinity
    return spec


def _container(group: PodGroup) -> dict[str, Any]:
    shape = group.shape
    container: dict[str, Any] = {
        "name": names.CONTAINER,
        "image": shape.image,
        "imagePullPolicy": shape.image_pull_policy,
        "command": list(group.command),
        "env": [{"name": name, "value": value} for name, value in _variables(group).items()],
        "resources": _resources(shape),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "scratch", "mountPath": SCRATCH},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
    }
    if shape.secrets:
        container["envFrom"] = [{"secretRef": {"name": name}} for name in shape.secrets]
    return container


def _variables(group: PodGroup) -> dict[str, str]:
    """Every program finds a place to write, and the manifest of what is made its image's digest.

    What the shape and the launcher say wins.
    """
    variables = {
        "HOME": SCRATCH,
        "TMPDIR": SCRATCH,
        "XDG_CACHE_HOME": f"{SCRATCH}/.cache",
        "PYTHONUNBUFFERED": "1",
    }
    _, _, digest = group.shape.image.partition("@")
    if digest:
        variables["CODELLM_IMAGE_DIGEST"] = digest
    return variables | dict(group.env)


def _resources(shape: PodShape) -> dict[str, Any]:
    wanted = {"cpu": shape.cpu, "memory": shape.memory, "ephemeral-storage": shape.ephemeral_storage}
    if shape.gpus:
        wanted[shape.gpu_resource] = str(shape.gpus)
    wanted |= shape.extra_resources
    return {"requests": dict(wanted), "limits": dict(wanted)}


def _pod_security(shape: PodShape) -> dict[str, Any]:
    security: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": _profile(shape.seccomp_profile)}
    if shape.apparmor_profile is not None:
        security["appArmorProfile"] = _profile(shape.apparmor_profile)
    if shape.run_as_user is not None:
        user = shape.run_as_user
        security |= {"runAsUser": user, "runAsGroup": user, "fsGroup": user}
    return security


def _profile(text: str) -> dict[str, str]:
    kind, _, name = text.partition("/")
    return {"type": "Localhost", "localhostProfile": name} if kind == "localhost" else {"type": kind}


def _volumes(shape: PodShape) -> list[dict[str, Any]]:
    return [
        {"name": "scratch", "emptyDir": {"sizeLimit": shape.ephemeral_storage}},
        {"name": "tmp", "emptyDir": {"sizeLimit": shape.ephemeral_storage}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": shape.shared_memory}},
    ]


def _topology_annotations(shape: PodShape) -> dict[str, str]:
    """Kueue's own way of placing a group; without a queue `_affinity` does it."""
    if not shape.topology or not shape.queue:
        return {}
    key = _REQUIRED_TOPOLOGY if shape.topology.required else _PREFERRED_TOPOLOGY
    return {key: shape.topology.level}


def _affinity(group: PodGroup) -> dict[str, Any]:
    """Pods attract each other to one value of the topology's label, and never share a node."""
    shape = group.shape
    if shape.nodes == 1:
        return {}
    ours = {"labelSelector": {"matchLabels": {names.GROUP: group.name}}}
    apart = {**ours, "topologyKey": "kubernetes.io/hostname"}
    affinity: dict[str, Any] = {
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}
    }
    if shape.topology and not shape.queue:
        near = {**ours, "topologyKey": shape.topology.level}
        affinity["podAffinity"] = (
            {"requiredDuringSchedulingIgnoredDuringExecution": [near]}
            if shape.topology.required
            else {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": near}]
            }
        )
    return affinity
