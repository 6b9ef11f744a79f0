"""A cluster for tests: an API server that behaves like Kubernetes', controllers, a scripted kubelet."""

from tests.cluster.bed.bed import Bed
from tests.cluster.bed.kubelet import steps

__all__ = ["Bed", "steps"]
