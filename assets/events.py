"""What Dagster is told: materializations with provenance and metadata, and progress as log lines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from assets.metadata import artifact_metadata, summary_metadata
from assets.plan import Plan
from codellm_dag.launch import Outcome, StageEvent
from codellm_dag.store import Artifact, Store, digest
from resources.io_manager import Artifacts
from resources.keys import dagster_key
from resources.observers import notify

_LOG_SECONDS = 15.0
IS_WHOLE = "is_whole"


def log_partition(
    context: dg.AssetExecutionContext, plan: Plan, key: str, outcome: Outcome, provenance: Mapping[str, str]
) -> None:
    """Log the materialization of one partition in a run of all, tagged as Dagster tags a run of one."""
    version = context.assets_def.code_versions_by_key.get(context.asset_key)
    context.log_event(
        dg.AssetMaterialization(
            asset_key=context.asset_key,
            partition=dagster_key(plan.partitions, key),
            metadata=_metadata(plan, context.resources.store.open(), outcome),
            tags={
                **provenance,
                **({"dagster/code_version": version} if version else {}),
                "dagster/data_version": outcome.artifact.content_digest,
                "dagster/data_version_is_user_provided": "true",
            },
        )
    )


def provenance_tags(context: dg.AssetExecutionContext, upstream: Iterable[str]) -> dict[str, str]:
    """Tags that name the newest event of each upstream asset; without them the UI calls a partition unsynced.

    Coarse for partitioned assets, as Dagster's own tags are; exact are the inputs in the manifest.
    """
    tags = {}
    for record in context.instance.get_asset_records([dg.AssetKey(name) for name in upstream]):
        last = record.asset_entry.last_materialization_record
        if last is None or last.asset_materialization is None:
            continue
        name = record.asset_entry.asset_key.to_user_string()
        version = (last.asset_materialization.tags or {}).get("dagster/data_version")
        tags[f"dagster/input_event_pointer/{name}"] = str(last.storage_id)
        tags[f"dagster/input_data_version/{name}"] = version or "INITIAL"
    return tags


def materialization(
    context: dg.AssetExecutionContext,
    plan: Plan,
    outcomes: Mapping[str, Outcome],
    left_out: Mapping[str, str],
) -> dg.MaterializeResult:
    """The materialization of the whole asset, or of the run's one partition, with what is handed on."""
    store: Store = context.resources.store.open()
    artifacts = {key: outcome.artifact for key, outcome in outcomes.items()}
    checks = [is_whole(store, outcomes.values())] if plan.verify else []
    if plan.partitions is None:
        return _one(plan, store, outcomes[""], artifacts[""], checks)
    if context.has_partition_key:
        (outcome,) = outcomes.values()
        return _one(plan, store, outcome, artifacts, checks)
    shown = summary_metadata({key: (outcome.manifest, outcome.decision) for key, outcome in outcomes.items()})
    if len(outcomes) == 1:
        shown |= _metadata(plan, store, *outcomes.values())
    if left_out:
        lines = [f"- **{key}**: {reason}" for key, reason in left_out.items()]
        shown["left out"] = dg.MetadataValue.md("\n".join(lines))
    contents = digest({key: artifact.content_digest for key, artifact in artifacts.items()})
    return dg.MaterializeResult(
        value=artifacts, metadata=shown, data_version=dg.DataVersion(contents), check_results=checks
    )


def _one(
    plan: Plan,
    store: Store,
    outcome: Outcome,
    value: Artifact | Artifacts,
    checks: Sequence[dg.AssetCheckResult],
) -> dg.MaterializeResult:
    return dg.MaterializeResult(
        value=value,
        metadata=_metadata(plan, store, outcome),
        data_version=dg.DataVersion(outcome.artifact.content_digest),
        check_results=checks,
    )


def is_whole(store: Store, outcomes: Iterable[Outcome]) -> dg.AssetCheckResult:
    """The check of this name: every file of what was reused, hashed again, is as it was committed.

    What was computed just now was hashed just now.
    """
    reused = [outcome.artifact for outcome in outcomes if outcome.decision.action == "reused"]
    problems = [
        f"{artifact.label}: {bad.path} {bad.problem}" for artifact in reused for bad in store.verify(artifact)
    ]
    return dg.AssetCheckResult(
        check_name=IS_WHOLE,
        passed=not problems,
        description="; ".join(problems[:3]) or None,
        metadata={"hashed again": len(reused)},
    )


def _metadata(plan: Plan, store: Store, outcome: Outcome) -> dict[str, Any]:
    shown = artifact_metadata(outcome.manifest, outcome.decision, _place(store, outcome.artifact))
    more = plan.show(store.local_path(outcome.artifact)) if plan.show else {}
    more = {name: value for name, value in more.items() if value is not None}
    return {"why": shown["why"], **more, **shown}


def _place(store: Store, artifact: Artifact) -> str:
    return f"{store.url}/artifacts/{artifact.stage}/{artifact.fingerprint}"


class Listener:
    """Passes a stage's events to observers, and now and then a line of progress to Dagster's log."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._log = context.log
        self._said_at = time.monotonic()

    def __call__(self, event: StageEvent) -> None:
        """Take one event."""
        notify(event)
        if event.type in ("waiting", "started", "retrying", "finished"):
            self._log.info(f"{event.title}: {event.type}: {event.message}")
        elif event.type == "progress" and time.monotonic() - self._said_at >= _LOG_SECONDS:
            self._said_at = time.monotonic()
            self._log.info(f"{event.title}: {progress_line(event)}")


def progress_line(event: StageEvent) -> str:
    """``120 of 700 steps, 3.1 a second, 187 s left, loss 4.1``."""
    text = f"{event.done:,.10g} of {event.total:,.10g} {event.unit}".rstrip()
    if event.rate and event.total > event.done:
        text += f", {event.rate:,.3g} a second, {(event.total - event.done) / event.rate:,.0f} s left"
    return f"{text}, {event.note}" if event.note else text
