"""Hands artifacts from asset to asset by reference; the bytes never pass through Dagster.

A partitioned asset gives ``{partition: Artifact}``, another its `Artifact`. Within one run an input is
exactly what that run made or reused. Across runs it is what the store's refs name: for a partitioned asset,
of every partition that Dagster maps (or of all, in a run without partitions), those that were ever made.
"""

from __future__ import annotations

import dagster as dg
from pydantic import PrivateAttr

from codellm_dag.store import Artifact, Store
from resources.keys import store_key
from resources.store import StoreResource

PARTITIONED = "codellm_dag/partitioned"
"""Key of an asset's definition metadata: whether its output is a mapping of partitions."""

OPTIONAL = "codellm_dag/optional"
"""Key of an input's metadata: whether it is None where the upstream asset was never made."""

Artifacts = dict[str, Artifact]
"""A partitioned asset's artifacts by the store's partition key."""


class ArtifactIOManager(dg.ConfigurableIOManager):
    """The IO manager of all assets."""

    store: StoreResource
    _made: dict[tuple[str, str], Artifact | Artifacts] = PrivateAttr(default_factory=dict)

    def handle_output(self, context: dg.OutputContext, obj: Artifact | Artifacts) -> None:
        """Keep what this run made; the refs were set when it was committed."""
        self._made[(context.run_id, context.asset_key.to_user_string())] = obj

    def load_input(self, context: dg.InputContext) -> Artifact | Artifacts | None:
        """What the upstream asset made. Raises Failure if that is one artifact and it was never made, unless
        the input is optional."""
        name = context.asset_key.to_user_string()
        made = self._made.get((context.step_context.run_id, name))
        whole = not context.has_asset_partitions
        if whole and made is not None:
            return made
        store = self.store.open()
        upstream = context.upstream_output
        if upstream is not None and upstream.definition_metadata.get(PARTITIONED):
            keys = None if whole else [store_key(key) for key in context.asset_partition_keys]
            found = _partitions(store, name, keys)
            return found | made if isinstance(made, dict) else found
        artifact = store.refs.artifact(name)
        if artifact is None and not (context.definition_metadata or {}).get(OPTIONAL):
            raise dg.Failure(
                description=f"{name} has no artifact in the store {store.url}; materialize {name} first",
                allow_retries=False,
            )
        return artifact


def _partitions(store: Store, asset: str, keys: list[str] | None) -> Artifacts:
    if keys is None:
        refs = [ref for ref in store.refs.all() if ref.asset == asset and ref.partition is not None]
        return {str(ref.partition): ref.artifact for ref in refs}
    found = {key: store.refs.artifact(asset, key) for key in keys}
    return {key: artifact for key, artifact in found.items() if artifact is not None}
