"""The kinds of objects the bed serves, and the paths they are served under."""

from __future__ import annotations

from dataclasses import dataclass

Object = dict
"""A Kubernetes object as parsed JSON. What is stored is never changed in place."""


@dataclass(frozen=True)
class Resource:
    """One kind. `custom` ones (CRDs) are stored as they come: no schema, no defaults."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    custom: bool = False

    @property
    def api_version(self) -> str:
        """``v1`` or ``group/version``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def title(self) -> str:
        """As in error messages: ``pods``, ``jobs.batch``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def prefix(self) -> str:
        """First part of its path."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


def _custom(group: str, version: str, *kinds: str, namespaced: bool = True) -> list[Resource]:
    return [Resource(group, version, f"{kind.lower()}s", kind, namespaced, custom=True) for kind in kinds]


PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
EVENTS = Resource("", "v1", "events", "Event")
SECRETS = Resource("", "v1", "secrets", "Secret")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
JOBS = Resource("batch", "v1", "jobs", "Job")

RESOURCES: tuple[Resource, ...] = (
    PODS,
    SERVICES,
    EVENTS,
    SECRETS,
    CONFIG_MAPS,
    Resource("", "v1", "serviceaccounts", "ServiceAccount"),
    Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    NODES,
    NAMESPACES,
    JOBS,
    Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
    *_custom("jobset.x-k8s.io", "v1alpha2", "JobSet"),
    *_custom("trainer.kubeflow.org", "v1alpha1", "TrainJob", "TrainingRuntime"),
    *_custom("trainer.kubeflow.org", "v1alpha1", "ClusterTrainingRuntime", namespaced=False),
    *_custom("kueue.x-k8s.io", "v1beta1", "Workload", "LocalQueue"),
    *_custom("kueue.x-k8s.io", "v1beta1", "ClusterQueue", "ResourceFlavor", namespaced=False),
)


def find(group: str, version: str, plural: str) -> Resource | None:
    """The resource of a path, or None if it is not served."""
    for resource in RESOURCES:
        if (resource.group, resource.version, resource.plural) == (group, version, plural):
            return resource
    return None
