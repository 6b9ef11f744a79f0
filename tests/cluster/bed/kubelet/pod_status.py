"""What the kubelet and the scheduler write into a pod's status, as pure edits of a copy of the pod."""

from __future__ import annotations

from tests.cluster.bed.conditions import with_condition
from tests.cluster.bed.deletion import timestamp
from tests.cluster.bed.resources import Object


def condition(pod: Object, kind: str, status: str, reason: str = "", message: str = "") -> Object:
    """Set a condition."""
    entry = {"type": kind, "status": status, "lastProbeTime": None}
    entry.update({name: text for name, text in (("reason", reason), ("message", message)) if text})
    return with_condition(pod, entry)


def scheduled(pod: Object, node: str) -> Object:
    """Bound to a node."""
    pod["spec"]["nodeName"] = node
    return condition(pod, "PodScheduled", "True")


def accepted(pod: Object, host_ip: str) -> Object:
    """Seen by the kubelet: containers are being created."""
    pod["status"].update(startTime=timestamp(), hostIP=host_ip)
    condition(pod, "Initialized", "True")
    condition(pod, "PodReadyToStartContainers", "True")
    for part, statuses in (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")):
        if pod["spec"].get(part):
            reason = "PodInitializing" if pod["spec"].get("initContainers") else "ContainerCreating"
            pod["status"][statuses] = [_fresh(container, reason) for container in pod["spec"][part]]
    return not_ready(pod, "ContainersNotReady")


def _fresh(container: Object, reason: str) -> Object:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": reason}},
        "lastState": {},
    }


def not_ready(pod: Object, reason: str, status: str = "False") -> Object:
    """No traffic."""
    condition(pod, "Ready", status, reason)
    return condition(pod, "ContainersReady", status, reason)


def waiting(pod: Object, reason: str, message: str = "", name: str = "") -> Object:
    """A container (all, if none is named) waits."""
    for status in _statuses(pod, name):
        if "terminated" in status["state"]:
            status["lastState"] = status["state"]
        status["state"] = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        status.update(ready=False, started=False)
    return not_ready(pod, "ContainersNotReady")


def running(pod: Object, ip: str, name: str = "", restarts: int = 0) -> Object:
    """A container (all, if none is named) runs, after so many restarts."""
    pod["status"].update(phase="Running", podIP=ip, podIPs=[{"ip": ip}])
    for status in _statuses(pod, name):
        if "terminated" in status["state"]:
            status["lastState"] = status["state"]
        status["state"] = {"running": {"startedAt": timestamp()}}
        status.update(
            ready=True, started=True, restartCount=restarts, containerID=f"bed://{pod['metadata']['uid']}"
        )
    if all("running" in status["state"] for status in pod["status"]["containerStatuses"]):
        condition(pod, "Ready", "True")
        condition(pod, "ContainersReady", "True")
    return pod


def terminated(pod: Object, code: int, reason: str = "", message: str = "", name: str = "") -> Object:
    """A container (all that have not ended, if none is named) ended with an exit code."""
    for status in _statuses(pod, name):
        if "terminated" in status["state"]:
            continue
        started = status["state"].get("running", {}).get("startedAt")
        end = {
            "exitCode": code,
            "reason": reason or ("Completed" if code == 0 else "Error"),
            "startedAt": started,
            "finishedAt": timestamp(),
            "containerID": status.get("containerID", ""),
        }
        status["state"] = {"terminated": {**end, **({"message": message} if message else {})}}
        status.update(ready=False, started=False)
    return not_ready(pod, "PodCompleted" if code == 0 else "ContainersNotReady")


def ended(pod: Object, phase: str, reason: str = "", message: str = "") -> Object:
    """The pod has come to its end."""
    pod["status"]["phase"] = phase
    for name, text in (("reason", reason), ("message", message)):
        if text:
            pod["status"][name] = text
    return not_ready(pod, "PodCompleted" if phase == "Succeeded" else "PodFailed")


def _statuses(pod: Object, name: str) -> list[Object]:
    found = [*pod["status"].get("containerStatuses", ())]
    if name:
        found = [s for s in [*pod["status"].get("initContainerStatuses", ()), *found] if s["name"] == name]
    return found
