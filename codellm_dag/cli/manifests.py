"""``codellm-dag plan --manifests``: the Kubernetes manifests of a stage, without launching anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from codellm_dag.cli.session import Session
from codellm_dag.launch.errors import InvalidRequestError
from codellm_dag.launch.kubernetes.group import PodGroup, pod_group
from codellm_dag.launch.kubernetes.render import render
from codellm_dag.recipes.pod_presets import load_pods
from codellm_dag.stages import registry
from codellm_dag.store.paths import launch_path

_FINGERPRINT = "0" * 64
"""Stands for the fingerprint, which is known when the inputs are there."""
_ATTEMPT = "a1"


@dataclass(frozen=True)
class _Plan:
    stage: str
    group: PodGroup
    manifests: list[dict[str, Any]]


def print_manifests(here: Session, stages: list[str], pods: str, image: str) -> None:
    """Print the manifests of `stages` as YAML that kubectl takes, or as JSON, checked by all rules that hold
    before a launch. Raises InvalidRequestError and InvalidRecipeError.
    """
    plans = _plans(here, stages, pods, image)
    if here.as_json:
        here.json({"store": here.store.url, "plans": [_json(one) for one in plans]})
    else:
        manifests = [manifest for one in plans for manifest in one.manifests]
        print(yaml.safe_dump_all(manifests, sort_keys=False, width=110), end="")


def _plans(here: Session, stages: list[str], pods: str, image: str) -> list[_Plan]:
    for stage in stages:
        if stage not in registry.STAGES:
            allowed = ", ".join(registry.STAGES)
            raise InvalidRequestError(f"there is no stage {stage!r}; allowed: {allowed}")
    shapes = load_pods(pods, image, registry.STAGES)
    found = []
    for stage in stages:
        group = pod_group(
            stage=stage,
            fingerprint=_FINGERPRINT,
            attempt=_ATTEMPT,
            asset=stage,
            partition=None,
            run_id="",
            owner="",
            store=here.store.url,
            record=launch_path(stage, _FINGERPRINT, _ATTEMPT),
            env={},
            shape=shapes.of(stage),
        )
        found.append(_Plan(stage, group, render(group)))
    return found


def _json(one: _Plan) -> dict[str, Any]:
    shape = one.group.shape
    return {
        "stage": one.stage,
        "name": one.group.name,
        "namespace": one.group.namespace,
        "pods": shape.nodes,
        "gpus": shape.nodes * shape.gpus,
        "processes": shape.world_size,
        "command": list(one.group.command),
        "manifests": one.manifests,
    }
