"""Dagster resources: the store, the launcher of stages, and the IO manager that hands artifacts on."""

from __future__ import annotations

from resources.io_manager import ArtifactIOManager
from resources.launcher import LauncherResource
from resources.store import StoreResource


def build_resources(store: str = "", launcher: str = "") -> dict[str, object]:
    """All resources by the key under which assets ask for them; empty: as the environment says."""
    opened = StoreResource(url=store)
    return {
        "store": opened,
        "launcher": LauncherResource(kind=launcher),
        "artifacts": ArtifactIOManager(store=opened),
    }
