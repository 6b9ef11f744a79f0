"""Defaults that the API server fills in, for the fields a launcher reads."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from tests.cluster.bed.resources import JOBS, PODS, SECRETS, SERVICES, Object, Resource

JOB_LABELS = ("batch.kubernetes.io/controller-uid", "controller-uid")
NAME_LABELS = ("batch.kubernetes.io/job-name", "job-name")


def fill_in(resource: Resource, item: Object) -> None:
    """Fill in the defaults of a new object, in place. Its uid is already there."""
    if resource == PODS:
        _pod(item["spec"])
        item["status"] = {"phase": "Pending", "qosClass": _qos(item["spec"])}
    elif resource == JOBS:
        _job(item)
    elif resource == SERVICES:
        _service(item["spec"])
    elif resource == SECRETS:
        for name, text in item.pop("stringData", {}).items():
            item.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()


def _pod(spec: Object) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    spec.setdefault("enableServiceLinks", True)
    for container in [*spec.get("initContainers", ()), *spec.get("containers", ())]:
        _container(container)


def _container(container: Object) -> None:
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    latest = ":" not in container.get("image", "") or container.get("image", "").endswith(":latest")
    pinned = "@" in container.get("image", "")
    container.setdefault("imagePullPolicy", "Always" if latest and not pinned else "IfNotPresent")
    resources = container.setdefault("resources", {})
    for name, limit in resources.get("limits", {}).items():
        resources.setdefault("requests", {}).setdefault(name, limit)
    for port in container.get("ports", ()):
        port.setdefault("protocol", "TCP")


def _job(job: Object) -> None:
    spec = job["spec"]
    if "completions" not in spec and "parallelism" not in spec:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 6)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    spec.setdefault("manualSelector", False)
    if spec["manualSelector"] is False:
        del spec["manualSelector"]
    spec.setdefault("podReplacementPolicy", "Failed" if "podFailurePolicy" in spec else "TerminatingOrFailed")
    for rule in spec.get("podFailurePolicy", {}).get("rules", ()):
        for pattern in rule.get("onPodConditions", ()):
            pattern.setdefault("status", "True")
    template = spec["template"]
    _pod(template["spec"])
    uid, name = job["metadata"]["uid"], job["metadata"]["name"]
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    labels.update(dict.fromkeys(JOB_LABELS, uid), **dict.fromkeys(NAME_LABELS, name))
    if not spec.get("selector"):
        spec["selector"] = {"matchLabels": {JOB_LABELS[0]: uid}}
    labels_of_job = job["metadata"].setdefault("labels", {})
    if not labels_of_job:
        labels_of_job.update(dict(labels.items()))
    job["status"] = {}


def _service(spec: Object) -> None:
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    for port in spec.get("ports", ()):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port["port"])
    if spec["type"] == "ClusterIP":
        spec.setdefault("clusterIP", "10.96.0.10")
        spec.setdefault("clusterIPs", [spec["clusterIP"]])


def _qos(spec: Object) -> str:
    """Quality of service class, from requests and limits."""
    containers = [*spec.get("initContainers", ()), *spec.get("containers", ())]
    needs = [container.get("resources", {}) for container in containers]
    if not any(_has(need, part) for need in needs for part in ("requests", "limits")):
        return "BestEffort"
    guaranteed = all(
        need.get("limits", {}).get(name) and need["limits"][name] == need.get("requests", {}).get(name)
        for need in needs
        for name in ("cpu", "memory")
    )
    return "Guaranteed" if guaranteed else "Burstable"


def _has(need: Object, part: str) -> bool:
    return _any(need.get(part, {}), ("cpu", "memory"))


def _any(names: Iterable[str], wanted: Iterable[str]) -> bool:
    return any(name in set(names) for name in wanted)
