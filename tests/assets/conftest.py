"""A toy graph, a store, and ways to run the one into the other."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from codellm_dag.store import Store

_TOYS = Path(__file__).parent / "toys"


class Toys:
    """The toy graph on one store and one Dagster instance."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        import toy_graph

        from codellm_dag.automation import without_partitions
        from resources import build_resources

        self.assets = toy_graph.ASSETS
        self.store = Store(folder)
        self.instance = instance
        self.resources = build_resources(store=str(folder), launcher="inline")
        self.whole = without_partitions(self.assets)

    def run_whole(self, only: str = "*", **config: dict[str, Any]) -> dg.ExecuteInProcessResult:
        """All assets (or the one named) with all partitions in one run."""
        job = dg.define_asset_job("whole", only, executor_def=dg.in_process_executor)
        definitions = dg.Definitions(assets=self.whole, jobs=[job], resources=self.resources)
        return definitions.resolve_job_def("whole").execute_in_process(
            run_config=_run_config(config), instance=self.instance, raise_on_error=False
        )

    def run(self, asset: str, partition: str | None = None, **config: dict[str, Any]) -> Any:
        """One asset, and one partition of it, as the UI runs it."""
        return dg.materialize(
            self.assets,
            selection=[asset],
            partition_key=partition,
            run_config=_run_config(config),
            instance=self.instance,
            resources=self.resources,
            raise_on_error=False,
        )

    def text(self, asset: str, partition: str | None = None) -> str:
        """What the artifact that an asset is now says."""
        artifact = self.store.refs.artifact(asset, partition)
        assert artifact is not None
        return (self.store.local_path(artifact) / "number.txt").read_text()

    def events(self, asset: str) -> dict[str | None, dg.AssetMaterialization]:
        """The newest materialization of each partition of an asset (of the whole asset under None)."""
        found: dict[str | None, dg.AssetMaterialization] = {}
        records = self.instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
        for record in records:
            assert record.asset_materialization is not None
            found.setdefault(record.partition_key, record.asset_materialization)
        return found


def _run_config(config: dict[str, Any]) -> dict[str, Any]:
    return {"ops": {name: {"config": values} for name, values in config.items()}}


def failure(result: Any) -> str:
    """The description of the one failure of a run."""
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data
    return data.user_failure_data.description if data.user_failure_data else data.error.message


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toys]:
    monkeypatch.syspath_prepend(str(_TOYS))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Toys(tmp_path / "store", instance)


@pytest.fixture(scope="session", autouse=True)
def _forget_toys() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith("toy_")]:
        del sys.modules[name]
