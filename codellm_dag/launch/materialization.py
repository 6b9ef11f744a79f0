"""`materialize`: the one way to get an artifact; reuses a proven one, else computes and publishes it."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from codellm_dag.launch.collector import Collector, make_emitter
from codellm_dag.launch.decision import explain
from codellm_dag.launch.errors import InvalidRequestError, StageFailedError
from codellm_dag.launch.events import PipesBridge, PipesSink, StageEvent
from codellm_dag.launch.identity import Identity, identify
from codellm_dag.launch.launcher import Ended, Job, Launcher
from codellm_dag.launch.local import LocalLauncher, tail
from codellm_dag.launch.work import Work
from codellm_dag.recipes.base import Recipe
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.registry import Stage
from codellm_dag.stages.request import RequestInput, StageRequest
from codellm_dag.store import (
    Artifact,
    Attempt,
    Decision,
    Hit,
    InvalidOutputError,
    Label,
    Manifest,
    Miss,
    Store,
    StoreError,
)
from codellm_dag.store.manifest import VOLATILE
from codellm_dag.store.records import now

_MAX_LOG = 1 << 20


@dataclass(frozen=True)
class Outcome:
    """What a request came to."""

    artifact: Artifact
    manifest: Manifest
    decision: Decision


def materialize(
    store: Store,
    stage: Stage | str,
    recipe: Recipe,
    inputs: Mapping[str, Artifact],
    *,
    asset: str | None = None,
    partition: str | None = None,
    trial: str | None = None,
    launcher: Launcher | None = None,
    runtime: Runtime | None = None,
    on_event: Callable[[StageEvent], None] | None = None,
    dagster: PipesBridge | None = None,
    infra_retries: int = 2,
    retry_seconds: float = 1.0,
) -> Outcome:
    """The artifact of a stage on these inputs: reused if it is proven to be there, else computed.

    `asset` (default: the stage's name) and `partition` are the name whose ref and decisions are kept.
    Attempts labelled ``infra`` are repeated up to `infra_retries` times. Raises InvalidRequestError,
    InvalidRecipeError (before anything runs), StageFailedError and StoreError.
    """
    request = _Request(
        store,
        identify(stage, recipe, inputs),
        asset=asset or (stage if isinstance(stage, str) else stage.name),
        partition=partition,
        trial=trial,
        launcher=launcher or LocalLauncher(),
        runtime=runtime or Runtime(),
        on_event=on_event,
        dagster=dagster,
    )
    return request.outcome(infra_retries, retry_seconds)


class _Request:
    """One call of `materialize`."""

    def __init__(
        self,
        store: Store,
        identity: Identity,
        *,
        asset: str,
        partition: str | None,
        trial: str | None,
        launcher: Launcher,
        runtime: Runtime,
        on_event: Callable[[StageEvent], None] | None,
        dagster: PipesBridge | None,
    ) -> None:
        self.store = store
        self.identity = identity
        self.stage = identity.stage
        self.asset = asset
        self.partition = partition
        self.trial = trial
        self.launcher = launcher
        self.runtime = runtime
        self.dagster = dagster
        self.on_event = on_event
        self.work = Work(store, self.stage.name, identity.fingerprint)

    def outcome(self, infra_retries: int, retry_seconds: float) -> Outcome:
        """Reuse, or wait for whoever computes the same, or compute."""
        found = self._lookup()
        if isinstance(found, Hit):
            return self._reuse(found)
        with self.work.lock(lambda: self._emit("waiting", message="another process computes the same")):
            found = self._lookup()
            if isinstance(found, Hit):
                return self._reuse(found)
            self.work.clean_up_dead(found.manifest)
            paths = self._input_paths()
            decision = explain(self.store, self.identity, found, self.asset, self.partition)
            manifest = self._compute(decision, paths, infra_retries, retry_seconds)
            self.work.remove()
        return self._record(manifest, decision)

    def _lookup(self) -> Hit | Miss:
        return self.store.lookup(self.stage.name, self.identity.fingerprint)

    def _reuse(self, hit: Hit) -> Outcome:
        if self.work.folder.is_dir():  # a commit's orchestrator was killed before it had tidied up
            self.work.tidy(hit.manifest)
        decision = explain(self.store, self.identity, hit, self.asset, self.partition)
        self._emit("reused", message=decision.reasons[0])
        return self._record(hit.manifest, decision)

    def _record(self, manifest: Manifest, decision: Decision) -> Outcome:
        self.store.refs.set(self.asset, self.partition, manifest.artifact)
        self.store.decisions.add(decision)
        return Outcome(manifest.artifact, manifest, decision)

    def _input_paths(self) -> dict[str, Path]:
        """Local folders of the inputs. Raises InvalidRequestError for an input that is not whole."""
        paths = {}
        for slot, artifact in self.identity.inputs.items():
            found = self.store.lookup(artifact.stage, artifact.fingerprint)
            if isinstance(found, Miss):
                raise InvalidRequestError(
                    f"input {slot} of stage {self.stage.name!r}, the {artifact.kind} {artifact.label!r} "
                    f"({artifact.fingerprint[:12]}), is not whole: {found.reason}; run its asset again"
                )
            if found.artifact.content_digest != artifact.content_digest:
                raise InvalidRequestError(
                    f"input {slot} of stage {self.stage.name!r}: {artifact.label!r} was computed again with "
                    "another content since it was handed over; run what is below it again"
                )
            paths[slot] = self.store.local_path(artifact)
        return paths

    def _compute(
        self, decision: Decision, paths: Mapping[str, Path], infra_retries: int, retry_seconds: float
    ) -> Manifest:
        """Attempt until one succeeds or fails for good."""
        for left in range(infra_retries, -1, -1):
            try:
                return self._attempt(decision, paths)
            except StageFailedError as failure:
                if failure.label != "infra" or not left:
                    raise
                pause = retry_seconds * 2 ** (infra_retries - left)
                self._emit("retrying", message=f"{failure}; again in {pause:g} s", label="infra")
                time.sleep(pause)
        raise ValueError(f"infra_retries = {infra_retries}; it must be 0 or more")

    def _attempt(self, decision: Decision, paths: Mapping[str, Path]) -> Manifest:
        attempt, out = self.store.new_attempt(self.stage.name, self.identity.fingerprint)
        workspace = self.work.workspace(attempt)
        job = Job(self._request(attempt, out, workspace, paths), self.store, workspace)
        (workspace / "request.json").write_text(job.request.model_dump_json(indent=1))
        emit = self._emitter(attempt)
        collector = Collector(emit)
        emit("started", message=decision.reasons[0])
        start = now()
        ended: Ended | None = None
        label: Label = "killed"  # what stands if an interrupt takes us out of here
        error = "interrupted"
        try:
            try:
                ended = self._launch(job, collector)
                label, error = _verdict(collector, ended)
                if label == "ok":
                    return self._publish(job, out, collector, ended, decision)
            except (StoreError, OSError) as failure:
                label, error = "infra", str(failure)
            except InvalidOutputError as failure:
                label, error = "error", str(failure)
            except Exception as failure:
                label, error = "error", f"the orchestrator failed: {failure!r}"
                raise
            raise self._failure(label, error, attempt, ended)
        finally:
            if label != "ok":
                self.store.ledger.add(self._row(attempt, label, error, start, ended, collector))
                self.work.keep_points(workspace)
                self.store.discard(self.stage.name, self.identity.fingerprint, attempt)
                emit("failed", label=label, message=error)
            shutil.rmtree(workspace, ignore_errors=True)

    def _launch(self, job: Job, collector: Collector) -> Ended:
        with self._pipes() as sink:

            def handle(message: Mapping[str, object]) -> None:
                collector(message)
                if sink is not None:
                    sink.handle(message)

            env = dict(sink.env()) if sink is not None else {}
            return self.launcher.run(Job(job.request, job.store, job.workspace, env), handle)

    @contextlib.contextmanager
    def _pipes(self) -> Iterator[PipesSink | None]:
        if self.dagster is None:
            yield None
        else:
            with self.dagster() as sink:
                yield sink

    def _request(self, attempt: str, out: Path, workspace: Path, paths: Mapping[str, Path]) -> StageRequest:
        identity = self.identity
        return StageRequest(
            stage=self.stage.name,
            module=self.stage.module,
            recipe_class=self.stage.recipe,
            recipe=identity.payload["recipe"],
            code=identity.code.modules,
            packages=identity.payload["packages"],
            asset=self.asset,
            partition=self.partition,
            trial=self.trial,
            fingerprint=identity.fingerprint,
            attempt=attempt,
            inputs={
                slot: RequestInput(artifact=artifact, path=str(paths[slot]))
                for slot, artifact in identity.inputs.items()
            },
            out=str(out),
            resume_dir=str(self.work.resume_dir),
            messages=str(workspace / "messages.jsonl"),
            runtime=self.runtime,
        )

    def _publish(
        self, job: Job, out: Path, collector: Collector, ended: Ended, decision: Decision
    ) -> Manifest:
        attempt = job.request.attempt
        _keep_log(ended.log, out)
        row = self._row(attempt, "ok", None, ended.start, ended, collector)
        earlier = self.store.ledger.of(self.stage.name, self.identity.fingerprint)
        draft = Manifest(
            stage=self.stage.name,
            kind=self.stage.kind,
            name=self.asset,
            partition=self.partition,
            fingerprint=self.identity.fingerprint,
            content_digest="",
            attempt=attempt,
            created=now(),
            identity=dict(self.identity.payload),
            code=self.identity.code.modules,
            inputs=dict(self.identity.inputs),
            outputs=[],
            metrics=collector.metrics,
            series=collector.series(self.work.points),
            tables=collector.tables,
            environment=collector.environment,
            cost=[*(item.cost for item in earlier), row.cost],
            decision=decision,
        )
        manifest, _ = self.store.publish(draft, out, collector.outputs)
        self.store.ledger.add(row)
        self._emitter(attempt)("finished", label="ok", message=f"{len(manifest.outputs)} files")
        return manifest

    def _row(
        self,
        attempt: str,
        label: Label,
        error: str | None,
        start: datetime,
        ended: Ended | None,
        collector: Collector,
    ) -> Attempt:
        end = ended.end if ended else now()
        devices = collector.environment.devices or ["cpu"]
        return Attempt(
            attempt=attempt,
            stage=self.stage.name,
            asset=self.asset,
            partition=self.partition,
            trial=self.trial,
            fingerprint=self.identity.fingerprint,
            label=label,
            error=error,
            start=start,
            end=end,
            hosts=list(ended.hosts) if ended else [],
            devices=devices,
            device_seconds=(end - start).total_seconds() * len(devices),
            cpu_seconds=ended.cpu_seconds if ended else None,
            peak_memory_bytes=ended.peak_memory_bytes if ended else None,
            recipe=self.identity.payload["recipe"],
        )

    def _failure(self, label: Label, error: str, attempt: str, ended: Ended | None) -> StageFailedError:
        printed = tail(ended.log if ended else None)
        title = self.asset if self.partition is None else f"{self.asset}/{self.partition}"
        quoted = f"\nIt last printed:\n{printed}" if printed else ""
        return StageFailedError(
            f"{title} failed ({label}): {error}{quoted}",
            label=label,
            stage=self.stage.name,
            asset=self.asset,
            partition=self.partition,
            attempt=attempt,
            log_tail=printed,
        )

    def _emitter(self, attempt: str | None = None) -> Callable[..., None]:
        return make_emitter(
            self.on_event,
            stage=self.stage.name,
            asset=self.asset,
            partition=self.partition,
            fingerprint=self.identity.fingerprint,
            attempt=attempt,
        )

    def _emit(self, kind: str, **fields: object) -> None:
        self._emitter()(kind, **fields)


def _verdict(collector: Collector, ended: Ended) -> tuple[Label, str]:
    """Label and error of an attempt that ended; no closing message is a failure whatever the exit code."""
    if collector.succeeded:
        return "ok", ""
    if collector.label is not None:
        return collector.label, collector.error
    code = f"exit code {ended.exit_code}" if ended.signal is None else f"signal {ended.signal}"
    if ended.out_of_memory:
        return "oom", f"the kernel ended it for want of memory ({code})"
    if ended.signal in (2, 9, 15):
        return "killed", f"its process was killed ({code})"
    return "infra", ended.detail or f"its process ended without a closing message ({code})"


def _keep_log(log: Path | None, out: Path) -> None:
    """Keep what the stage printed among the volatile files: the last mebibyte of it."""
    if log is None or not log.is_file() or not log.stat().st_size:
        return
    folder = out / VOLATILE
    folder.mkdir(exist_ok=True)
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _MAX_LOG))
        (folder / "stage.log").write_bytes(stream.read())
