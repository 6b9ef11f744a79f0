"""The store's small records: refs (what an asset is now), decisions (why), and the ledger of attempts.

Refs are the only mutable thing in a store. Decisions and ledger rows are one immutable object each, so any
number of writers can add them at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

from codellm_dag.store.backend import Backend
from codellm_dag.store.manifest import Artifact, Attempt, Decision, Ref, to_json
from codellm_dag.store.paths import file_name


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """A unique name that sorts by time: ``20261104T101500.123456-1f2e3d4c``."""
    return f"{now():%Y%m%dT%H%M%S.%f}-{secrets.token_hex(4)}"


def _place(folder: str, asset: str, partition: str | None) -> str:
    base = f"{folder}/{file_name(asset)}"
    return f"{base}/@" if partition is None else f"{base}/{file_name(partition)}"


class Refs:
    """Names for artifacts: asset and partition → what they are at present."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def set(self, asset: str, partition: str | None, artifact: Artifact) -> Ref:
        """Point the name at `artifact`; nothing is written if it already points there."""
        present = self.get(asset, partition)
        if present is not None and present.artifact == artifact:
            return present
        ref = Ref(asset=asset, partition=partition, artifact=artifact, updated=now())
        self._backend.put(_place("refs", asset, partition) + ".json", to_json(ref))
        return ref

    def get(self, asset: str, partition: str | None = None) -> Ref | None:
        """The name's record, or None if it was never set."""
        try:
            return Ref.model_validate_json(self._backend.read(_place("refs", asset, partition) + ".json"))
        except FileNotFoundError:
            return None

    def artifact(self, asset: str, partition: str | None = None) -> Artifact | None:
        """The artifact the name points at, or None."""
        ref = self.get(asset, partition)
        return ref.artifact if ref else None

    def all(self) -> list[Ref]:
        """Every name, sorted by asset and partition."""
        paths = [f"refs/{path}" for path in self._backend.sizes("refs") if path.endswith(".json")]
        refs = [Ref.model_validate_json(data) for data in self._backend.read_many(paths)]
        return sorted(refs, key=lambda ref: (ref.asset, ref.partition or ""))


class Decisions:
    """Why each request for an asset partition was computed or reused."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def add(self, decision: Decision) -> None:
        """Keep a decision."""
        place = _place("decisions", decision.asset, decision.partition)
        self._backend.create(f"{place}/{new_id()}.json", to_json(decision))

    def of(self, asset: str, partition: str | None = None, last: int | None = None) -> list[Decision]:
        """The decisions on one asset partition, oldest first; only the `last` so many if given."""
        place = _place("decisions", asset, partition)
        names = sorted(self._backend.children(place))
        chosen = names if last is None else names[-last:]
        found = self._backend.read_many([f"{place}/{name}" for name in chosen])
        return [Decision.model_validate_json(data) for data in found]


class Ledger:
    """Every attempt that was ever made, the failed ones too."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def add(self, attempt: Attempt) -> None:
        """Keep a row; a second row of the same attempt is ignored."""
        self._backend.create(_row(attempt.stage, attempt.fingerprint, attempt.attempt), to_json(attempt))

    def has(self, stage: str, fingerprint: str, attempt: str) -> bool:
        """Whether the attempt has its row."""
        return f"{attempt}.json" in self._backend.children(f"ledger/{stage}/{fingerprint}")

    def of(self, stage: str, fingerprint: str) -> list[Attempt]:
        """All attempts at one computation, oldest first."""
        return self._read(f"ledger/{stage}/{fingerprint}")

    def rows(self, stage: str | None = None) -> list[Attempt]:
        """All attempts, or those of one stage, oldest first."""
        return self._read("ledger" if stage is None else f"ledger/{stage}")

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self.rows())

    def _read(self, prefix: str) -> list[Attempt]:
        paths = [f"{prefix}/{path}" for path in self._backend.sizes(prefix) if path.endswith(".json")]
        rows = [Attempt.model_validate_json(data) for data in self._backend.read_many(paths)]
        return sorted(rows, key=lambda row: (row.start, row.attempt))


def _row(stage: str, fingerprint: str, attempt: str) -> str:
    return f"ledger/{stage}/{fingerprint}/{attempt}.json"
