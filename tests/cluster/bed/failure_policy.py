"""Pod failure policies: what a failed pod means for its Job."""

from __future__ import annotations

from dataclasses import dataclass

from tests.cluster.bed.resources import Object


@dataclass(frozen=True)
class Verdict:
    """`action` is FailJob, Ignore or Count; a `message` goes with FailJob."""

    action: str
    message: str = ""


def judge(job: Object, pod: Object) -> Verdict:
    """The first rule that matches a failed pod; Count if none does."""
    for index, rule in enumerate(job["spec"].get("podFailurePolicy", {}).get("rules", ())):
        reason = _matches(rule, pod)
        if reason:
            action = rule["action"]
            message = f"{reason} matching {action} rule at index {index}" if action == "FailJob" else ""
            return Verdict(action, message)
    return Verdict("Count")


def _matches(rule: Object, pod: Object) -> str:
    """Why a rule matches, empty if it does not."""
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    status = pod.get("status", {})
    if codes := rule.get("onExitCodes"):
        for container in [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]:
            code = container.get("state", {}).get("terminated", {}).get("exitCode", 0)
            meant = codes.get("containerName") in (None, container["name"])
            if meant and code and (code in codes["values"]) == (codes["operator"] == "In"):
                return f"Container {container['name']} for pod {name} failed with exit code {code}"
    for pattern in rule.get("onPodConditions", ()):
        for condition in status.get("conditions", ()):
            if (condition["type"], condition["status"]) == (pattern["type"], pattern["status"]):
                return f"Pod {name} has condition {condition['type']}"
    return ""
