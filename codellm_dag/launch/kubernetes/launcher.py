"""`KubernetesLauncher`: attempts as groups of pods, which outlive the orchestrator that launched them.

It creates a group under the name that its attempt has, or finds it there, and follows it by watches and
through the messages in the store. Whatever happens to this process, the group goes on; only `end` stops it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

from codellm_dag.launch.errors import InvalidRequestError
from codellm_dag.launch.kubernetes import names
from codellm_dag.launch.kubernetes.answers import ApiError, UnreachableError
from codellm_dag.launch.kubernetes.api import Api
from codellm_dag.launch.kubernetes.follow import Follower
from codellm_dag.launch.kubernetes.group import PodGroup, pod_group
from codellm_dag.launch.kubernetes.kinds import WORKLOADS
from codellm_dag.launch.kubernetes.render import render
from codellm_dag.launch.kubernetes.state import Phase, observe
from codellm_dag.launch.launcher import Ended, Handle
from codellm_dag.launch.remote import LaunchRecord
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.environment import collect_environment
from codellm_dag.stages.messages import StoreReader
from codellm_dag.stages.request import StageRequest
from codellm_dag.store import Store
from codellm_dag.store.records import now

_END_BUDGET = 30.0
"""Seconds to try to delete a group: who cancels does not wait longer, and the reaper comes later."""


class KubernetesLauncher:
    """Runs stages as pods; a request's shape is ``runtime.kubernetes``.

    `cancel_requested` tells, at an interrupt, whether a person gave the work up; else it is left running.
    `message_seconds` is how often messages are read, `watch_seconds` how long one watch lasts.
    """

    name = "kubernetes"

    def __init__(
        self,
        api: Api,
        *,
        owner: str = "",
        cancel_requested: Callable[[], bool] = lambda: True,
        message_seconds: float = 2.0,
        watch_seconds: int = 300,
    ) -> None:
        self._api = api
        self.owner = owner
        self._cancel_requested = cancel_requested
        self._message_seconds = message_seconds
        self._watch_seconds = watch_seconds

    def budget(self, runtime: Runtime) -> Mapping[str, int]:
        """What the pod shape allows."""
        shape = runtime.kubernetes
        return {} if shape is None else {"infra": shape.infra_retries, "evicted": shape.preemptions}

    def reserve(self, request: StageRequest) -> LaunchRecord:
        """The record under which the request would run. Raises InvalidRequestError, InvalidRecipeError."""
        shape = _shape(request)
        if not shape.allow_dirty and collect_environment(request.runtime).git_dirty:
            raise InvalidRequestError(
                "the code has changes that are not committed, so nobody could make this result again; commit "
                "them, or set allow_dirty in the pod shape"
            )
        record = LaunchRecord(
            request=request,
            group=names.group_name(request.stage, request.fingerprint, request.attempt),
            namespace=shape.namespace,
            created=now(),
            owner=self.owner,
        )
        render(_group(record, request.store or "", {}))  # a shape that would be refused is refused here
        return record

    def follow(
        self,
        record: LaunchRecord,
        store: Store,
        env: Mapping[str, str],
        handle: Handle,
        tell: Callable[[str], None],
    ) -> Ended:
        """Create the group or attach to it, and follow it to its end. Raises ContactLostError."""
        follower = Follower(
            self._api,
            _group(record, store.url, env),
            StoreReader(store, record.request.messages),
            handle,
            tell,
            message_seconds=self._message_seconds,
            watch_seconds=self._watch_seconds,
        )
        return follower.run()

    def end(self, record: LaunchRecord) -> None:
        """Delete the group unless it has finished: what has finished stays until its time to live is over."""
        shape = _shape(record.request)
        kind = WORKLOADS[shape.form]
        try:
            found = self._api.get(kind, record.namespace, record.group, budget=_END_BUDGET)
            if found is None or found["metadata"].get("deletionTimestamp"):
                return
            if observe(found, (), (), shape.nodes).phase not in (Phase.SUCCEEDED, Phase.FAILED):
                uid = found["metadata"]["uid"]
                self._api.delete(kind, record.namespace, record.group, uid=uid, budget=_END_BUDGET)
        except (ApiError, UnreachableError) as error:
            what = f"{record.group} could not be deleted ({error})"
            warnings.warn(f"{what}; `codellm-dag reap --delete` does it later", stacklevel=2)

    def cancel_requested(self) -> bool:
        """Whether an interrupt means that the work is given up."""
        return self._cancel_requested()


def _shape(request: StageRequest) -> PodShape:
    shape = request.runtime.kubernetes
    if shape is None:
        raise InvalidRequestError(
            f"stage {request.stage!r} has no pod shape; set CODELLM_PODS, or the launcher's field 'pods'"
        )
    return shape


def _group(record: LaunchRecord, store: str, env: Mapping[str, str]) -> PodGroup:
    request = record.request
    return pod_group(
        stage=request.stage,
        fingerprint=request.fingerprint,
        attempt=request.attempt,
        asset=request.asset,
        partition=request.partition,
        run_id=record.owner,
        owner="",
        store=store,
        record=record.path,
        env=env,
        shape=_shape(request),
    )
