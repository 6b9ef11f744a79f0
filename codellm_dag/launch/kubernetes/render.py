"""From a group to manifests: the workload (an Indexed Job), then the headless Service of several nodes.

The workload is created first and owns the rest (`owned_by`), so that deleting it, or its time to live,
takes everything along. JobSet and TrainJob are in `jobset` and `trainjob`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codellm_dag.launch.kubernetes import names
from codellm_dag.launch.kubernetes.group import RENDEZVOUS_PORT, PodGroup
from codellm_dag.launch.kubernetes.pod import pod_template
from codellm_dag.recipes.pods import PodShape

Manifest = dict[str, Any]

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


def render(group: PodGroup) -> list[Manifest]:
    """The manifests of a group in the order of their creation: the workload, then what it owns."""
    if group.shape.nodes == 1:
        return [job(group)]
    return [job(group), service(group)]


def owned_by(manifest: Manifest, workload: Mapping[str, Any]) -> Manifest:
    """`manifest` as the property of `workload` (as the API returned it): it goes when the workload goes."""
    owner = {
        "apiVersion": workload["apiVersion"],
        "kind": workload["kind"],
        "name": workload["metadata"]["name"],
        "uid": workload["metadata"]["uid"],
        "controller": False,
        "blockOwnerDeletion": False,
    }
    return {**manifest, "metadata": {**manifest["metadata"], "ownerReferences": [owner]}}


def job(group: PodGroup) -> Manifest:
    """The Indexed Job: one pod a node; suspended at first where a queue admits it."""
    shape = group.shape
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(group, queue_labels(shape)),
        "spec": {
            **({"suspend": True} if shape.queue else {}),
            **job_spec(group),
            "ttlSecondsAfterFinished": shape.ttl,
        },
    }


def job_spec(group: PodGroup) -> dict[str, Any]:
    """What a Job and the Jobs of a JobSet have in common."""
    shape = group.shape
    return {
        "completionMode": "Indexed",
        "completions": shape.nodes,
        "parallelism": shape.nodes,
        "backoffLimit": 0,
        "activeDeadlineSeconds": shape.deadlines.backstop + shape.grace_seconds,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _failure_rules(shape)},
        "template": pod_template(group),
    }


def _failure_rules(shape: PodShape) -> list[dict[str, Any]]:
    """A disrupted lone pod is made again by the cluster; of several, none can go on without the others."""
    disrupted = [{"type": "DisruptionTarget", "status": "True"}]
    action = "Ignore" if shape.nodes == 1 else "FailJob"
    return [
        {"action": action, "onPodConditions": disrupted},
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
    ]


def service(group: PodGroup) -> Manifest:
    """The headless Service that gives the pods names, before they are ready: they meet to become so."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(group),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {names.GROUP: group.name},
            "ports": [{"name": "rendezvous", "port": RENDEZVOUS_PORT, "targetPort": RENDEZVOUS_PORT}],
        },
    }


def metadata(group: PodGroup, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Name, namespace, labels and annotations of an object of the group."""
    return {
        "name": group.name,
        "namespace": group.namespace,
        "labels": {**group.labels, **(labels or {})},
        "annotations": dict(group.annotations),
    }


def queue_labels(shape: PodShape) -> dict[str, str]:
    """The label that hands a workload to Kueue."""
    return {QUEUE_LABEL: shape.queue} if shape.queue else {}
