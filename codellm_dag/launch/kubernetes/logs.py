"""The last lines of a group's containers: for people, and to classify a failure by. Best effort.

A log that cannot be had is left out, never waited for: its pod may be gone with its node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codellm_dag.launch.kubernetes.answers import ApiError, UnreachableError
from codellm_dag.launch.kubernetes.api import Api

LINES = 40
_MAX_PODS = 8
_MAX_CHARACTERS = 4000


def last_lines(api: Api, namespace: str, pods: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The last lines by ``pod/container``: of pods that failed first, of eight pods at most."""
    order = sorted(pods, key=lambda pod: (pod.get("status") or {}).get("phase") != "Failed")
    found = {}
    for pod in order[:_MAX_PODS]:
        name = pod["metadata"]["name"]
        for container, restarted in _containers(pod):
            text = _log(api, namespace, name, container, False)
            if restarted and not text:
                text = _log(api, namespace, name, container, True)
            if text:
                found[f"{name}/{container}"] = text
    return found


def joined(printed: Mapping[str, str]) -> str:
    """All of it as one text, each container's under its name if there are several."""
    if len(printed) == 1:
        return next(iter(printed.values()))[-_MAX_CHARACTERS:]
    share = _MAX_CHARACTERS // max(len(printed), 1)
    return "\n".join(f"--- {place}\n{text[-share:]}" for place, text in printed.items())


def _containers(pod: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    status = pod.get("status") or {}
    for kind in ("initContainerStatuses", "containerStatuses"):
        for item in status.get(kind) or ():
            state = item.get("state") or {}
            if "waiting" not in state or item.get("restartCount"):
                yield item["name"], bool(item.get("restartCount"))


def _log(api: Api, namespace: str, pod: str, container: str, previous: bool) -> str:
    try:
        return api.log(namespace, pod, container, LINES, previous=previous).strip()
    except (ApiError, UnreachableError):
        return ""
