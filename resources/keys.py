"""The names of partitions, in Dagster and in the store.

Dagster names a model × benchmark pair ``benchmark|model`` (dimensions in alphabetical order); the store, the
command line and the leaderboard name it ``model|benchmark``.
"""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg


def evaluation_key(model: str, benchmark: str) -> str:
    """A model × benchmark pair as the store names it: ``model|benchmark``."""
    return f"{model}|{benchmark}"


def store_key(partition: str) -> str:
    """The store's name of a partition that Dagster names `partition`."""
    if isinstance(partition, dg.MultiPartitionKey):
        parts: Mapping[str, str] = partition.keys_by_dimension
        return evaluation_key(parts["model"], parts["benchmark"])
    return partition


def dagster_key(partitions: dg.PartitionsDefinition | None, key: str) -> str:
    """Dagster's key of a partition that the store names `key`: the inverse of `store_key`."""
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        model, _, benchmark = key.rpartition("|")
        return dg.MultiPartitionKey({"model": model, "benchmark": benchmark})
    return key
