"""From a group to checked manifests, in the order of their creation: the workload, then what it owns.

The workload is a Job, a JobSet or a TrainJob. It owns the rest (`owned_by`), so that deleting it, or its
time to live, takes everything along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codellm_dag.launch.kubernetes.check import check_shape
from codellm_dag.launch.kubernetes.check_manifests import check_manifests
from codellm_dag.launch.kubernetes.group import PodGroup
from codellm_dag.launch.kubernetes.job import job, service
from codellm_dag.launch.kubernetes.jobset import jobset
from codellm_dag.launch.kubernetes.trainjob import trainjob

Manifest = dict[str, Any]


def render(group: PodGroup) -> list[Manifest]:
    """The manifests of a group: the workload, and for a Job of several nodes its headless Service.

    Raises InvalidRecipeError, naming the field, its value and what is allowed, for a shape or a pod template
    that a cluster would refuse or that would not do what it says.
    """
    check_shape(group.shape)
    manifests = _render(group)
    check_manifests(manifests)
    return manifests


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


def _render(group: PodGroup) -> list[Manifest]:
    match group.shape.form:
        case "jobset":
            return [jobset(group)]
        case "trainjob":
            return [trainjob(group)]
        case _:
            return [job(group)] if group.shape.nodes == 1 else [job(group), service(group)]
