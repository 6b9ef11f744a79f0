"""Named shapes whose manifests lie in ``golden/``, one YAML file each. To write them again after a change:

    python -m tests.launch.kubernetes.shapes

and read the difference before it is committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from codellm_dag.launch.kubernetes.group import PodGroup, pod_group
from codellm_dag.launch.kubernetes.render import render
from codellm_dag.recipes.pods import PodShape

GOLDEN = Path(__file__).parent / "golden"
IMAGE = f"registry.example/codellm-dag/training@sha256:{'ab' * 32}"
FINGERPRINT = "0123456789abcdef" * 4

_GPU_NODE: dict[str, Any] = {
    "gpus": 8,
    "cpu": "96",
    "memory": "1000Gi",
    "shared_memory": "128Gi",
    "ephemeral_storage": "1000Gi",
    "tolerations": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
    "secrets": ["codellm-dag-s3"],
}

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "one-pod": {"cpu": "4", "memory": "16Gi", "secrets": ["codellm-dag-s3"]},
    "sandbox": {
        "gpus": 1,
        "memory": "120Gi",
        "sandbox": True,
        "seccomp_profile": "localhost/codellm-dag-sandbox.json",
        "apparmor_profile": "Unconfined",
    },
    "nodes-queue-topology": {
        **_GPU_NODE,
        "nodes": 8,
        "queue": "gpu",
        "topology": {"level": "cloud.provider.com/topology-block", "required": True},
        "priority_class": "training",
        "node_selector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
        "extra_resources": {"rdma/ib": "8"},
        "image_pull_secrets": ["registry"],
    },
    "jobset": {**_GPU_NODE, "nodes": 2, "form": "jobset", "queue": "gpu"},
    "trainjob": {**_GPU_NODE, "nodes": 2, "form": "trainjob", "queue": "gpu", "secrets": []},
}


def shape(**fields: Any) -> PodShape:
    """A pod shape with the tests' image."""
    return PodShape.model_validate({"image": IMAGE, **fields})


def group_of(pods: PodShape, **values: Any) -> PodGroup:
    """The group of one attempt on these pods."""
    given: dict[str, Any] = {
        "stage": "pretrained_checkpoint",
        "fingerprint": FINGERPRINT,
        "attempt": "a1",
        "asset": "pretrained_checkpoint",
        "partition": "optimizer.learning_rate=0.002",
        "run_id": "5a1ff4d2-0d6a-44c8-9aee-5ec8c57b4c2f",
        "owner": "team-a",
        "store": "s3://models/store",
        "record": f"launches/pretrained_checkpoint/{FINGERPRINT}/a1.json",
        "env": {"DAGSTER_PIPES_CONTEXT": "e30="},
    }
    return pod_group(**(given | values), shape=pods)


def golden_text(name: str) -> str:
    """The manifests of a named shape as YAML."""
    return yaml.safe_dump_all(render(group_of(shape(**SHAPES[name]))), sort_keys=False, width=110)


def main() -> None:
    """Write the golden files."""
    GOLDEN.mkdir(exist_ok=True)
    for name in SHAPES:
        (GOLDEN / f"{name}.yaml").write_text(golden_text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
