"""Small manifests for the tests of the bed."""

from __future__ import annotations

from typing import Any


def pod_spec(*command: str, **more: Any) -> dict[str, Any]:
    """A pod of one container `main`."""
    container = {"name": "main", "image": "example/image:1", "command": list(command or ("true",))}
    return {"restartPolicy": "Never", "containers": [container], **more}


def pod(name: str, *command: str, **more: Any) -> dict[str, Any]:
    """A bare pod."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": pod_spec(*command, **more)}


def job(name: str, *command: str, size: int = 1, pods: dict[str, Any] | None = None, **spec: Any) -> dict:
    """An Indexed Job without retries."""
    body = {
        "completionMode": "Indexed",
        "completions": size,
        "parallelism": size,
        "backoffLimit": 0,
        "template": {"spec": pod_spec(*command, **(pods or {}))},
        **spec,
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": body}
