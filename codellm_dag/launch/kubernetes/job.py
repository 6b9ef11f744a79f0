"""A group as a plain Indexed Job, and for several nodes the headless Service by which its pods meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codellm_dag.launch.kubernetes import names
from codellm_dag.launch.kubernetes.group import RENDEZVOUS_PORT, PodGroup
from codellm_dag.launch.kubernetes.pod import pod_template
from codellm_dag.recipes.pods import PodShape

Manifest = dict[str, Any]

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"


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
