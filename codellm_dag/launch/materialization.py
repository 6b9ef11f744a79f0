"""`materialize`: the one way to get an artifact; reuses a proven one, else computes and publishes it."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from codellm_dag.launch.bookkeeping import (
    Asked,
    Places,
    draft_manifest,
    keep_log,
    ledger_row,
    stage_request,
    verdict,
)
from codellm_dag.launch.collector import Collector, forgiving, make_emitter
from codellm_dag.launch.decision import explain
from codellm_dag.launch.errors import InvalidRequestError, StageFailedError
from codellm_dag.launch.events import PipesBridge, PipesSink, StageEvent
from codellm_dag.launch.identity import identify
from codellm_dag.launch.launcher import Ended, Job, Launcher
from codellm_dag.launch.local import LocalLauncher, tail
from codellm_dag.launch.work import Work, bury_dead
from codellm_dag.recipes.base import Recipe
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.registry import Stage
from codellm_dag.store import (
    Artifact,
    Decision,
    Hit,
    InvalidOutputError,
    Label,
    Manifest,
    Miss,
    Store,
    StoreError,
)
from codellm_dag.store.records import now


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
    `launcher` is a `LocalLauncher` by default. Attempts labelled ``infra`` are repeated up to `infra_retries`
    times, after `retry_seconds`, then twice that, and so on. Raises InvalidRequestError and
    InvalidRecipeError before anything runs, StageFailedError and StoreError after.
    """
    identity = identify(stage, recipe, inputs)
    asked = Asked(identity, asset or identity.stage.name, partition, trial, runtime or Runtime())
    return _Request(store, asked, launcher or LocalLauncher(), on_event, dagster).outcome(
        infra_retries, retry_seconds
    )


class _Request:
    """One call of `materialize`."""

    def __init__(
        self,
        store: Store,
        asked: Asked,
        launcher: Launcher,
        on_event: Callable[[StageEvent], None] | None,
        dagster: PipesBridge | None,
    ) -> None:
        self.store = store
        self.asked = asked
        self.launcher = launcher
        self.dagster = dagster
        self.on_event = forgiving(on_event)
        self.stage = asked.identity.stage.name
        self.fingerprint = asked.identity.fingerprint
        self.work = Work(store, self.stage, self.fingerprint)

    def outcome(self, infra_retries: int, retry_seconds: float) -> Outcome:
        """Reuse, or wait for whoever computes the same, or compute."""
        found = self._lookup()
        if isinstance(found, Hit):
            return self._reuse(found)
        bury_dead(self.store)
        waiting = "another process computes the same; waiting for it"
        with self.work.lock(lambda: self._emitter()("waiting", message=waiting)):
            found = self._lookup()
            if isinstance(found, Hit):
                return self._reuse(found)
            self.work.clean_up_dead(found.manifest)
            paths = self._input_paths()
            decision = self._explain(found)
            manifest = self._compute(decision, paths, infra_retries, retry_seconds)
            self.work.remove()
        return self._record(manifest, decision)

    def _lookup(self) -> Hit | Miss:
        return self.store.lookup(self.stage, self.fingerprint)

    def _explain(self, found: Hit | Miss) -> Decision:
        return explain(self.store, self.asked.identity, found, self.asked.asset, self.asked.partition)

    def _reuse(self, hit: Hit) -> Outcome:
        if self.work.folder.is_dir():  # a commit's orchestrator was killed before it had tidied up
            self.work.tidy(hit.manifest)
        decision = self._explain(hit)
        self._emitter()("reused", message=decision.reasons[0])
        return self._record(hit.manifest, decision)

    def _record(self, manifest: Manifest, decision: Decision) -> Outcome:
        self.store.refs.set(self.asked.asset, self.asked.partition, manifest.artifact)
        self.store.decisions.add(decision)
        return Outcome(manifest.artifact, manifest, decision)

    def _input_paths(self) -> dict[str, Path]:
        """Local folders of the inputs. Raises InvalidRequestError for an input that is not whole."""
        paths = {}
        for slot, artifact in self.asked.identity.inputs.items():
            found = self.store.lookup(artifact.stage, artifact.fingerprint)
            if isinstance(found, Miss):
                raise InvalidRequestError(
                    f"input {slot} of stage {self.stage!r}, the {artifact.kind} {artifact.label!r} "
                    f"({artifact.fingerprint[:12]}), is not whole: {found.reason}; run its asset again"
                )
            if found.artifact.content_digest != artifact.content_digest:
                raise InvalidRequestError(
                    f"input {slot} of stage {self.stage!r}: {artifact.label!r} was computed again with "
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
                message = f"{failure}; again in {pause:g} s"
                self._emitter()("retrying", message=message, label="infra")
                time.sleep(pause)
        raise ValueError(f"infra_retries = {infra_retries}; it must be 0 or more")

    def _attempt(self, decision: Decision, inputs: Mapping[str, Path]) -> Manifest:
        attempt, out = self.store.new_attempt(self.stage, self.fingerprint)
        workspace = self.work.workspace(attempt)
        places = Places(attempt, out, workspace, self.work.resume_dir, inputs)
        request = stage_request(self.asked, places)
        (workspace / "request.json").write_text(request.model_dump_json(indent=1))
        emit = self._emitter(attempt)
        collector = Collector(emit)
        emit("started", message=decision.reasons[0])
        start = now()
        ended: Ended | None = None
        label: Label = "killed"  # what stands if an interrupt takes us out of here
        error = "interrupted"
        try:
            try:
                ended = self._launch(Job(request, self.store, workspace), collector)
                label, error = verdict(collector, ended)
                if label == "ok":
                    return self._publish(places, collector, ended, decision)
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
                row = ledger_row(self.asked, attempt, label, error, start, ended, collector)
                self.store.ledger.add(row)
                self.work.keep_points(workspace)
                self.store.discard(self.stage, self.fingerprint, attempt)
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

    def _publish(self, places: Places, collector: Collector, ended: Ended, decision: Decision) -> Manifest:
        keep_log(ended.log, places.out)
        row = ledger_row(self.asked, places.attempt, "ok", None, ended.start, ended, collector)
        rows = [*self.store.ledger.of(self.stage, self.fingerprint), row]
        draft = draft_manifest(self.asked, places.attempt, collector, decision, rows, self.work.points)
        manifest, _ = self.store.publish(draft, places.out, collector.outputs)
        self.store.ledger.add(row)
        self._emitter(places.attempt)("finished", label="ok", message=f"{len(manifest.outputs)} files")
        return manifest

    def _failure(self, label: Label, error: str, attempt: str, ended: Ended | None) -> StageFailedError:
        printed = tail(ended.log if ended else None)
        quoted = f"\nIt last printed:\n{printed}" if printed else ""
        return StageFailedError(
            f"{self.asked.title} failed ({label}): {error}{quoted}",
            label=label,
            stage=self.stage,
            asset=self.asked.asset,
            partition=self.asked.partition,
            attempt=attempt,
            log_tail=printed,
        )

    def _emitter(self, attempt: str | None = None) -> Callable[..., None]:
        return make_emitter(
            self.on_event,
            stage=self.stage,
            asset=self.asked.asset,
            partition=self.asked.partition,
            fingerprint=self.fingerprint,
            attempt=attempt,
        )
