"""What a number cost, in device-hours.

A device-hour is one device (a GPU, or the CPU of one process) held for one hour, busy or not. Every recorded
attempt counts, the failed ones too. An artifact that several others share is counted once.

* ``model``: training the model, i.e. the artifacts of kind `checkpoint` and `policy` in the ancestry. This is
  what the leaderboard shows: it is what this model took and another one would not share.
* ``evaluation``: the samples and the report themselves.
* ``data``: everything else (corpora, tokenizer, shards, problems), which all models of a run share.

Not covered: energy and money.
"""

from __future__ import annotations

from dataclasses import dataclass

from codellm_dag.lineage.graph import Node, nodes
from codellm_dag.store import Manifest

_TRAINED = ("checkpoint", "policy")
_EVALUATED = ("samples", "report")


@dataclass(frozen=True)
class DeviceHours:
    """Device-hours by what they were spent on; `incomplete` if a manifest on the way is gone."""

    model: float
    evaluation: float
    data: float
    incomplete: bool = False

    @property
    def total(self) -> float:
        """All of it."""
        return self.model + self.evaluation + self.data


def device_hours(root: Node) -> DeviceHours:
    """The cost of everything below and including `root`."""
    sums = {"model": 0.0, "evaluation": 0.0, "data": 0.0}
    incomplete = False
    for node in nodes(root):
        incomplete |= node.manifest is None
        if node.manifest:
            sums[_part(node.artifact.kind)] += device_seconds(node.manifest) / 3600
    return DeviceHours(**sums, incomplete=incomplete)


def device_seconds(manifest: Manifest) -> float:
    """Device-seconds of every attempt at one artifact."""
    return sum(attempt.device_seconds for attempt in manifest.cost)


def _part(kind: str) -> str:
    if kind in _TRAINED:
        return "model"
    return "evaluation" if kind in _EVALUATED else "data"
