"""Fixtures of the cluster tests: the container engine, and a bed whose pods are real containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.bed import Bed
from tests.cluster.bed.kubelet.engine import Podman
from tests.cluster.bed.kubelet.podman import PodmanRuntime
from tests.support.stores import own_cache, s3_endpoint, s3_url

__all__ = ["own_cache", "s3_endpoint", "s3_url"]

pytest.register_assert_rewrite("tests.cluster.faults")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where `test_conformance.py` runs instead of the test cluster."""
    group = parser.getgroup("cluster", "a real cluster for the conformance suite")
    group.addoption("--kubeconfig", help="kubeconfig of the cluster")
    group.addoption("--cluster-store", help="store that its pods reach, s3://bucket/prefix")
    group.addoption("--cluster-image", help="image with this source tree, tests included")
    group.addoption("--cluster-namespace", default="codellm-dag", help="namespace for the pods")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """podman with storage and a network of its own. Fails, never skips, where it cannot be had."""
    engine = Podman(tmp_path_factory.mktemp("podman"))
    yield engine
    engine.close()


@pytest.fixture
def containers(engine: Podman, tmp_path: Path) -> Iterator[Bed]:
    """A bed that runs pods as containers; they see `tmp_path`, and may write there."""
    tmp_path.chmod(0o777)
    with Bed(tmp_path / "bed", runtime=PodmanRuntime(engine, {}, [tmp_path]).run) as bed:
        yield bed
        assert bed.problems == []
