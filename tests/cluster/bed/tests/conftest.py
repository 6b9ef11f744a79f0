"""A bed for each test, and the official client on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes import client, config

from tests.cluster.bed import Bed


@dataclass(frozen=True)
class Clients:
    core: client.CoreV1Api
    batch: client.BatchV1Api
    custom: client.CustomObjectsApi


@pytest.fixture
def bed() -> Iterator[Bed]:
    with Bed(namespaces=("default", "other")) as bed:
        yield bed
        assert bed.problems == []


@pytest.fixture
def api(bed: Bed) -> Clients:
    configuration: Any = client.Configuration()
    config.load_kube_config(str(bed.kubeconfig()), client_configuration=configuration)
    configuration.retries = False  # a fault is to be seen, not repaired
    one = client.ApiClient(configuration)
    return Clients(client.CoreV1Api(one), client.BatchV1Api(one), client.CustomObjectsApi(one))
