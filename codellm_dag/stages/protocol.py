"""What a stage's function is given: its inputs as local folders and a place to report to.

A stage is ``run(recipe, inputs, out, report) -> None``; it reads its inputs, writes files below ``out`` and
knows nothing of Dagster, Kubernetes or the store. Everything below ``out`` must be the same bytes for the
same recipe and inputs, except below ``out/_volatile`` (timings, logs), which no digest covers.

A stage whose module says ``DISTRIBUTED = True`` is called in every process of a group that torchrun started,
each with its own ``out`` and a report that only rank 0's is heard from; ``out`` counts from rank 0, and
``resume_dir`` is shared by the processes of a node and written by rank 0. Other stages are called in rank 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from codellm_dag.recipes.runtime import Runtime

VOLATILE = "_volatile"
"""Folder below a stage's ``out`` whose files are kept but are not part of the content digest."""


UNFINISHED = ".partial"
"""Ending of the name of anything directly below ``Report.resume_dir`` that is still being written."""


def is_complete(name: str) -> bool:
    """Whether an entry directly below ``Report.resume_dir`` is one to resume from, by its name.

    An entry is a file or a folder with all below it. It is complete unless its name begins with a dot or ends
    in ``UNFINISHED``. A stage writes it under such a name, gives it its own by a rename, and never changes it
    afterwards. It may put another in its place by a rename, or remove it: a folder by a rename too, to an
    unfinished name, before its files go. Whoever copies the folder relies on that.
    """
    return not name.startswith(".") and not name.endswith(UNFINISHED)


class Stopped(RuntimeError):
    """The stage was asked to end (`Report.stop_requested`) and has saved what it resumes from.

    The attempt's label is ``killed``: a stage cannot know why it is asked. Where a cluster's eviction was
    behind it the launcher sees that from outside and says ``evicted``.
    """

    label = "killed"


@dataclass(frozen=True)
class LocalArtifact:
    """An input artifact, readable at ``path`` (a folder; treat it as read-only)."""

    kind: str
    name: str
    fingerprint: str
    content_digest: str
    path: Path


class Inputs(Mapping[str, LocalArtifact]):
    """The inputs of a stage by slot. A slot that takes many artifacts has names ``slot/key``."""

    def __init__(self, artifacts: Mapping[str, LocalArtifact]) -> None:
        self._artifacts = {slot: artifacts[slot] for slot in sorted(artifacts)}

    def __getitem__(self, slot: str) -> LocalArtifact:
        return self._artifacts[slot]

    def __iter__(self) -> Iterator[str]:
        return iter(self._artifacts)

    def __len__(self) -> int:
        return len(self._artifacts)

    def many(self, slot: str) -> dict[str, LocalArtifact]:
        """The artifacts of a slot that takes many, by key, in sorted order of keys."""
        prefix = f"{slot}/"
        return {name[len(prefix) :]: value for name, value in self.items() if name.startswith(prefix)}


class Report(Protocol):
    """Where a stage tells how it is doing. Implementations must be cheap to call often."""

    runtime: Runtime
    """Threads and workers this attempt may use."""
    resume_dir: Path
    """A folder that survives attempts of the same fingerprint: partial work to resume from.

    In a pod it is copied to the store, entry by entry, as soon as an entry is complete (`is_complete`).
    """

    def stop_requested(self) -> bool:
        """Whether the attempt was asked to end, with SIGTERM, so that little time is left.

        The first call is a promise: from now on the stage asks again after every few seconds of work, and
        when the answer is yes it saves what it can resume from and raises `Stopped`. A stage that never asks
        is ended by the signal itself.
        """
        ...

    def progress(self, done: float, total: float, unit: str = "", note: str = "") -> None:
        """Say how far the work is: ``done`` of ``total`` in ``unit`` (e.g. tokens), with a short note."""
        ...

    def work(self, tokens: int, flops: float | None) -> None:
        """Say what this attempt has done since its start: tokens trained on, floating-point operations.

        Not what an earlier attempt did whose work it resumes. It is told of failed attempts too.
        """
        ...

    def metric(self, **values: float | int | str | bool) -> None:
        """Final scalars of the stage: the manifest's and the asset's metadata."""
        ...

    def point(self, step: int, **values: float) -> None:
        """A point of one or more time series (loss, reward, …) for plots.

        A stage that resumes tells the points before anew: the last second's may have died with a killed pod.
        """
        ...

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """A small table (at most 100 rows) for the asset's page."""
        ...

    def log(self, message: str) -> None:
        """A line for a person who reads the log."""
        ...
