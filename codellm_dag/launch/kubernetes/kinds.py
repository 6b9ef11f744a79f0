"""The kinds of objects we create or follow, and where the API server keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A namespaced kind: ``apps/v1``-like `api_version`, its name, and its plural in paths."""

    api_version: str
    name: str
    plural: str

    def path(self, namespace: str, name: str = "") -> str:
        """The path of the collection in a namespace, or of one object."""
        root = "api" if "/" not in self.api_version else "apis"
        collection = f"/{root}/{self.api_version}/namespaces/{namespace}/{self.plural}"
        return f"{collection}/{name}" if name else collection


JOB = Kind("batch/v1", "Job", "jobs")
POD = Kind("v1", "Pod", "pods")
EVENT = Kind("v1", "Event", "events")
SERVICE = Kind("v1", "Service", "services")
JOBSET = Kind("jobset.x-k8s.io/v1alpha2", "JobSet", "jobsets")
TRAINJOB = Kind("trainer.kubeflow.org/v1alpha1", "TrainJob", "trainjobs")

WORKLOADS: Mapping[str, Kind] = {"job": JOB, "jobset": JOBSET, "trainjob": TRAINJOB}
"""The kind that carries a group, by the form its shape asks for."""

_KINDS = {(kind.api_version, kind.name): kind for kind in (JOB, POD, EVENT, SERVICE, JOBSET, TRAINJOB)}


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """The kind of a manifest. Raises ValueError for one we do not create."""
    key = (manifest["apiVersion"], manifest["kind"])
    if key not in _KINDS:
        raise ValueError(f"manifests of kind {key[1]} ({key[0]}) are not known here")
    return _KINDS[key]
