"""Removes groups that no live run owns: what is left of orchestrators that died and of runs given up.

Only groups with our label and of our store are looked at, and only those that still hold resources: what has
finished goes by its time to live. A group is left over if its attempt is closed (its computation committed,
or its ledger row written), or if every run that launched it or attached to it has finished. A group launched
or followed outside of Dagster has no run to ask: it stays until its attempt is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from codellm_dag.launch.kubernetes import names
from codellm_dag.launch.kubernetes.answers import ApiError, Object
from codellm_dag.launch.kubernetes.api import Api
from codellm_dag.launch.kubernetes.kinds import WORKLOADS, Kind
from codellm_dag.launch.kubernetes.state import Phase, observe
from codellm_dag.launch.remote import Launches, LaunchRecord
from codellm_dag.launch.sessions import known
from codellm_dag.store import Attempt, Hit, Store
from codellm_dag.store.records import now

YOUNG = timedelta(minutes=10)
"""A group younger than this is left alone: its run may be between two steps."""


@dataclass(frozen=True)
class Leftover:
    """A group that nobody needs, and why."""

    kind: Kind
    name: str
    namespace: str
    uid: str
    created: datetime
    run: str
    reason: str
    record: LaunchRecord | None


def find_leftovers(
    api: Api,
    store: Store,
    namespace: str,
    run_is_live: Callable[[str], bool],
    *,
    young: timedelta = YOUNG,
) -> list[Leftover]:
    """The groups of `store` in a namespace that no live run owns, oldest first."""
    found = []
    for kind, workload in _workloads(api, namespace):
        meta = workload["metadata"]
        annotations = meta.get("annotations") or {}
        created = datetime.fromisoformat(meta["creationTimestamp"])
        if annotations.get(names.STORE) != store.url or now() - created < young:
            continue
        if meta.get("deletionTimestamp") or _has_finished(workload):
            continue
        reason, record = _why(store, annotations, run_is_live)
        if reason:
            run = annotations.get(names.RUN, "")
            name, uid = meta["name"], meta["uid"]
            found.append(Leftover(kind, name, namespace, uid, created, run, reason, record))
    return sorted(found, key=lambda item: (item.created, item.name))


def remove(api: Api, store: Store, leftover: Leftover) -> bool:
    """Delete a group; False if it went by itself. An open attempt is closed first, so that none attaches."""
    record = leftover.record
    if record is not None:
        row = Attempt(
            **known(record),
            label="killed",
            error=f"removed by the reaper: {leftover.reason}",
            start=record.created,
            end=datetime.now(UTC),
        )
        store.ledger.add(row)
    return api.delete(leftover.kind, leftover.namespace, leftover.name, uid=leftover.uid)


def _workloads(api: Api, namespace: str) -> Iterator[tuple[Kind, Object]]:
    """What carries a group; a JobSet's own Jobs have no record and are not asked about."""
    for kind in WORKLOADS.values():
        try:
            items, _ = api.list(kind, namespace, f"{names.MANAGED_BY}={names.MANAGER}")
        except ApiError as error:
            if error.status != 404:  # 404: the cluster has no such kind
                raise
            continue
        for item in items:
            if names.RECORD in (item["metadata"].get("annotations") or {}):
                yield kind, item


def _has_finished(workload: Object) -> bool:
    return observe(workload, (), (), 1).phase in (Phase.SUCCEEDED, Phase.FAILED)


def _why(
    store: Store, annotations: dict[str, str], run_is_live: Callable[[str], bool]
) -> tuple[str, LaunchRecord | None]:
    """Why a group is left over, and its record if the attempt is still open; '' if it is needed."""
    _, stage, fingerprint, file = annotations[names.RECORD].split("/")
    attempt = file.removesuffix(".json")
    if isinstance(store.lookup(stage, fingerprint), Hit):
        return "its computation is committed", None
    if store.ledger.has(stage, fingerprint, attempt):
        return "its attempt has ended", None
    record = Launches(store, stage, fingerprint).read(attempt)
    if record is None:
        return "its launch record is gone", None
    owners = (record.owner, *record.followers)
    if all(owner and not run_is_live(owner) for owner in owners):
        return f"its run {owners[-1][:8]} has ended", record
    return "", None
