"""The papers of an attempt: its request, its verdict, its ledger row and its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from codellm_dag.launch.collector import Collector, Point
from codellm_dag.launch.identity import Identity
from codellm_dag.launch.launcher import Ended
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.request import RequestInput, StageRequest
from codellm_dag.store import Attempt, Decision, Label, Manifest, Store
from codellm_dag.store.manifest import VOLATILE
from codellm_dag.store.paths import messages_prefix, resume_prefix
from codellm_dag.store.records import now

_MAX_LOG = 1 << 20
_MAX_ERROR = 4000


@dataclass(frozen=True)
class Asked:
    """What was asked for, and under which name."""

    identity: Identity
    asset: str
    partition: str | None
    trial: str | None
    runtime: Runtime

    @property
    def title(self) -> str:
        """``asset`` or ``asset/partition``."""
        return self.asset if self.partition is None else f"{self.asset}/{self.partition}"


@dataclass(frozen=True)
class Places:
    """Where an attempt finds and leaves its files on this machine."""

    attempt: str
    out: Path
    workspace: Path
    resume_dir: Path
    inputs: Mapping[str, Path]


def stage_request(asked: Asked, places: Places) -> StageRequest:
    """The request for one attempt on this machine."""
    inputs = {
        slot: RequestInput(artifact=artifact, path=str(places.inputs[slot]))
        for slot, artifact in asked.identity.inputs.items()
    }
    return StageRequest(
        **_common(asked),
        attempt=places.attempt,
        inputs=inputs,
        out=str(places.out),
        resume_dir=str(places.resume_dir),
        messages=str(places.workspace / "messages.jsonl"),
    )


def remote_request(asked: Asked, attempt: str, store: Store) -> StageRequest:
    """The request for one attempt elsewhere: everything it reads and writes lies in the store."""
    identity = asked.identity
    return StageRequest(
        **_common(asked),
        attempt=attempt,
        inputs={slot: RequestInput(artifact=artifact) for slot, artifact in identity.inputs.items()},
        store=store.url,
        resume=resume_prefix(identity.stage.name, identity.fingerprint),
        messages=messages_prefix(identity.stage.name, identity.fingerprint, attempt),
        upload=True,
    )


def _common(asked: Asked) -> dict[str, Any]:
    identity = asked.identity
    return {
        "stage": identity.stage.name,
        "module": identity.stage.module,
        "recipe_class": identity.stage.recipe,
        "recipe": identity.payload["recipe"],
        "chosen": identity.recipe.chosen_modules(),
        "code": identity.code.modules,
        "packages": identity.payload["packages"],
        "asset": asked.asset,
        "partition": asked.partition,
        "trial": asked.trial,
        "fingerprint": identity.fingerprint,
        "runtime": asked.runtime,
    }


_OVER_OWN_WORDS = ("oom", "evicted")
"""What a launcher saw that explains a stage's own error: if a peer is killed, a connection breaks."""
_VAGUE = ("error", "infra", "killed")


def verdict(collector: Collector, ended: Ended) -> tuple[Label, str]:
    """Label and error of an attempt that ended; no closing message is a failure whatever the exit code."""
    if collector.succeeded:
        return "ok", ""
    if collector.label is not None:
        if ended.label in _OVER_OWN_WORDS and collector.label in _VAGUE:
            return ended.label, f"{ended.detail}; the stage said: {collector.error}"
        return collector.label, collector.error
    if ended.label is not None:
        return ended.label, ended.detail
    code = f"exit code {ended.exit_code}" if ended.signal is None else f"signal {ended.signal}"
    if ended.out_of_memory:
        return "oom", f"the kernel ended it for want of memory ({code})"
    if ended.signal in (2, 9, 15):
        return "killed", f"its process was killed ({code})"
    return "infra", ended.detail or f"its process ended without a closing message ({code})"


def ledger_row(
    asked: Asked,
    attempt: str,
    label: Label,
    error: str | None,
    start: datetime,
    ended: Ended | None,
    collector: Collector,
) -> Attempt:
    """The row of an attempt that ended just now, or as `ended` says."""
    end = ended.end if ended else now()
    devices = collector.environment.devices or ["cpu"]
    return Attempt(
        attempt=attempt,
        stage=asked.identity.stage.name,
        asset=asked.asset,
        partition=asked.partition,
        trial=asked.trial,
        fingerprint=asked.identity.fingerprint,
        label=label,
        error=error if error is None else error[:_MAX_ERROR],
        start=start,
        end=end,
        hosts=list(ended.hosts) if ended else [],
        devices=devices,
        device_seconds=(end - start).total_seconds() * len(devices),
        cpu_seconds=ended.cpu_seconds if ended else None,
        peak_memory_bytes=ended.peak_memory_bytes if ended else None,
        **collector.work,
        recipe=asked.identity.payload["recipe"],
    )


def draft_manifest(
    asked: Asked,
    attempt: str,
    collector: Collector,
    decision: Decision,
    rows: list[Attempt],
    earlier: Sequence[Point],
) -> Manifest:
    """The manifest but for its outputs.

    `rows` are all attempts at this computation, this one last; `earlier` are the points that attempts whose
    work this one resumed reported.
    """
    identity = asked.identity
    return Manifest(
        stage=identity.stage.name,
        kind=identity.stage.kind,
        name=asked.asset,
        partition=asked.partition,
        fingerprint=identity.fingerprint,
        content_digest="",
        attempt=attempt,
        created=now(),
        identity=dict(identity.payload),
        code=identity.code.modules,
        inputs=dict(identity.inputs),
        outputs=[],
        metrics=collector.metrics,
        series=collector.series(earlier),
        tables=collector.tables,
        environment=collector.environment,
        cost=[row.cost for row in rows],
        decision=decision,
    )


def keep_log(log: Path | None, out: Path) -> None:
    """Keep what the stage printed among the volatile files: the last mebibyte of it."""
    if log is None or not log.is_file() or not log.stat().st_size:
        return
    folder = out / VOLATILE
    folder.mkdir(exist_ok=True)
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _MAX_LOG))
        (folder / "stage.log").write_bytes(stream.read())
