"""``codellm-dag plan``: the Kubernetes manifests of a stage, without launching anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
import yaml

from codellm_dag.cli.session import DEFAULT_STORE, DebugOption, JsonOption, Session, StoreOption, session
from codellm_dag.launch.errors import InvalidRequestError
from codellm_dag.launch.kubernetes.group import PodGroup, pod_group
from codellm_dag.launch.kubernetes.render import render
from codellm_dag.recipes.pod_presets import DEFAULT_PODS, IMAGE_VARIABLE, PODS_VARIABLE, load_pods
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


def plan(
    stages: Annotated[list[str], typer.Argument(metavar="STAGE...", help="stages, i.e. assets.")],
    pods: Annotated[
        str,
        typer.Option(
            "--pods",
            metavar="NAME|FILE",
            envvar=PODS_VARIABLE,
            show_envvar=True,
            show_default=DEFAULT_PODS,
            help="Shape of the pods: a preset, or a YAML file.",
        ),
    ] = "",
    image: Annotated[
        str,
        typer.Option(
            "--image",
            metavar="IMAGE",
            envvar=IMAGE_VARIABLE,
            show_envvar=True,
            help="Image of shapes that name none.",
        ),
    ] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The Kubernetes manifests of a stage, without launching anything.

    As YAML, checked by all rules that hold before a launch. The fingerprint in names is shown as zeros.

    [bold]Examples[/]

    codellm-dag plan pretrained_checkpoint --pods gpu-8x8 --image registry.example/codellm-dag/training:1.0

    codellm-dag plan rl_policy --pods pods.yaml | kubectl apply --dry-run=server -f -
    """
    with session(store, as_json=as_json, debug=debug) as here:
        plans = _plans(here, stages, pods, image)
        if as_json:
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
