"""`materialize`: the one way to get an artifact; reuses a proven one, else computes and publishes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from codellm_dag.launch.attempts import Request
from codellm_dag.launch.bookkeeping import Asked
from codellm_dag.launch.collector import forgiving
from codellm_dag.launch.decision import explain
from codellm_dag.launch.events import PipesBridge, StageEvent
from codellm_dag.launch.identity import identify
from codellm_dag.launch.launcher import Launcher
from codellm_dag.launch.local import LocalLauncher
from codellm_dag.launch.local_attempts import LocalAttempts
from codellm_dag.launch.remote_attempts import RemoteAttempts, RemoteLauncher
from codellm_dag.launch.work import Work, bury_dead
from codellm_dag.recipes.base import Recipe
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.registry import Stage
from codellm_dag.store import Artifact, Decision, Hit, Manifest, Miss, Store


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
    launcher: Launcher | RemoteLauncher | None = None,
    runtime: Runtime | None = None,
    on_event: Callable[[StageEvent], None] | None = None,
    dagster: PipesBridge | None = None,
    infra_retries: int = 2,
    retry_seconds: float = 1.0,
) -> Outcome:
    """The artifact of a stage on these inputs: reused if it is proven to be there, else computed.

    `asset` (default: the stage's name) and `partition` are the name whose ref and decisions are kept.
    `launcher` is a `LocalLauncher` by default. Attempts labelled ``infra`` are repeated up to `infra_retries`
    times, after `retry_seconds`, then twice that, and so on; a `RemoteLauncher` brings its own budgets.
    Raises InvalidRequestError and InvalidRecipeError before anything runs, StageFailedError and StoreError
    after.
    """
    identity = identify(stage, recipe, inputs)
    asked = Asked(identity, asset or identity.stage.name, partition, trial, runtime or Runtime())
    request = Request(store, asked, forgiving(on_event), dagster)
    return _Materialization(request, launcher or LocalLauncher()).outcome(infra_retries, retry_seconds)


class _Materialization:
    """One call of `materialize`."""

    def __init__(self, request: Request, launcher: Launcher | RemoteLauncher) -> None:
        self.request = request
        self.launcher = launcher
        self.store = request.store
        self.work = Work(request.store, request.stage, request.fingerprint)

    def outcome(self, infra_retries: int, retry_seconds: float) -> Outcome:
        """Reuse, or compute."""
        found = self.request.lookup()
        if isinstance(found, Hit):
            return self._reuse(found)
        asked = self.request.asked
        asked.identity.recipe.check_runtime(asked.runtime)
        if not isinstance(self.launcher, RemoteLauncher):
            return self._compute_here(self.launcher, infra_retries, retry_seconds)
        decision = self._explain(found)
        manifest = RemoteAttempts(self.request, self.launcher).compute(decision, retry_seconds)
        return self._record(manifest, decision)

    def _compute_here(self, launcher: Launcher, infra_retries: int, retry_seconds: float) -> Outcome:
        """Wait for whoever computes the same on this machine, or compute."""
        bury_dead(self.store)
        waiting = "another process computes the same; waiting for it"
        with self.work.lock(lambda: self.request.emitter()("waiting", message=waiting)):
            found = self.request.lookup()
            if isinstance(found, Hit):
                return self._reuse(found)
            self.work.clean_up_dead(found.manifest)
            decision = self._explain(found)
            attempts = LocalAttempts(self.request, launcher, self.work)
            manifest = attempts.compute(decision, infra_retries, retry_seconds)
            self.work.remove()
        return self._record(manifest, decision)

    def _explain(self, found: Hit | Miss) -> Decision:
        asked = self.request.asked
        return explain(self.store, asked.identity, found, asked.asset, asked.partition)

    def _reuse(self, hit: Hit) -> Outcome:
        if isinstance(self.launcher, RemoteLauncher):
            RemoteAttempts(self.request, self.launcher).settle(hit.manifest)
        if self.work.folder.is_dir():  # a commit's orchestrator was killed before it had tidied up
            self.work.tidy(hit.manifest)
        decision = self._explain(hit)
        self.request.emitter()("reused", message=decision.reasons[0])
        return self._record(hit.manifest, decision)

    def _record(self, manifest: Manifest, decision: Decision) -> Outcome:
        asked = self.request.asked
        self.store.refs.set(asked.asset, asked.partition, manifest.artifact)
        self.store.decisions.add(decision)
        return Outcome(manifest.artifact, manifest, decision)
