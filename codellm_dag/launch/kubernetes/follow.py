"""Follows one group from its creation to its end: what it is, what it says, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from codellm_dag.launch.errors import ContactLostError
from codellm_dag.launch.kubernetes import logs
from codellm_dag.launch.kubernetes.answers import ApiError, UnreachableError
from codellm_dag.launch.kubernetes.api import Api
from codellm_dag.launch.kubernetes.classify import Cause, never_starts, why_failed
from codellm_dag.launch.kubernetes.deadlines import Stopwatch
from codellm_dag.launch.kubernetes.group import PodGroup
from codellm_dag.launch.kubernetes.kinds import POD, WORKLOADS
from codellm_dag.launch.kubernetes.render import owned_by, render
from codellm_dag.launch.kubernetes.state import Phase, State, observe, read_pod
from codellm_dag.launch.kubernetes.watch import Mirror, Snapshot, following
from codellm_dag.launch.launcher import Ended, Handle
from codellm_dag.stages.messages import Message, MessageReader
from codellm_dag.store import StoreError
from codellm_dag.store.records import now

_LINGER = 30.0
"""Seconds, besides the grace, that pods may take to end once the stage has closed or the Job is ending."""
_REFUSED = 60.0
"""Seconds in which a watch may be refused: rights and tokens may be renewed at this moment."""


class Follower:
    """One attempt's group, as one orchestrator follows it."""

    def __init__(
        self,
        api: Api,
        group: PodGroup,
        reader: MessageReader,
        handle: Handle,
        tell: Callable[[str], None],
        *,
        message_seconds: float,
        watch_seconds: int,
    ) -> None:
        self._api = api
        self._group = group
        self._kind = WORKLOADS[group.shape.form]
        self._reader = reader
        self._handle = handle
        self._tell = tell
        self._message_seconds = message_seconds
        self._watch_seconds = watch_seconds
        self._stopwatch = Stopwatch(group.shape.deadlines)
        self._created: datetime = now()
        self._opened = False
        self._closed = False
        self._advanced: float | None = None
        self._told = ""
        self._read_at = 0.0
        self._unread_since: float | None = None
        self._leaving_since: float | None = None
        self._printed: Mapping[str, str] | None = None

    def run(self) -> Ended:
        """Create the group, or find it, and block until it has ended. Raises ContactLostError."""
        try:
            self._read()
            refused = self._create()
            if refused is not None:
                return self._ended(refused, None)
            group, namespace = self._group.name, self._group.namespace
            with following(self._api, group, namespace, self._kind, self._watch_seconds) as mirror:
                return self._follow(mirror)
        except UnreachableError as error:
            raise ContactLostError(
                f"lost contact with the cluster: {error}; {self._group.name} is left running, and the next "
                "run attaches to it"
            ) from error

    def _create(self) -> Cause | None:
        """Create what is not there; the cause if there is nothing to follow."""
        name, namespace = self._group.name, self._group.namespace
        if self._opened and self._api.get(self._kind, namespace, name) is None:
            # It ran while nobody followed it, and was removed: only its messages tell.
            if self._closed:
                return Cause(None, "")
            return Cause("infra", f"{self._kind.name} {name} began, and is gone without a closing message")
        workload, *rest = render(self._group)
        try:
            made = self._api.create(workload)
            if made is None:
                made = self._api.get(self._kind, namespace, name)
            if made is None:
                return Cause("killed", f"{self._kind.name} {name} was deleted while it was attached to")
            self._created = datetime.fromisoformat(made["metadata"]["creationTimestamp"])
            for manifest in rest:
                self._api.create(owned_by(manifest, made))
        except ApiError as error:
            return Cause("error", _refused(error, self._kind.name, name, namespace))
        return None

    def _follow(self, mirror: Mirror) -> Ended:
        while True:
            mirror.wait(self._group.name, min(1.0, self._message_seconds))
            self._check_contact(mirror)
            snapshot = mirror.snapshot(self._group.name, self._kind)
            if snapshot is None:
                continue
            state = self._observe(snapshot)
            over = state.phase in (Phase.SUCCEEDED, Phase.FAILED, Phase.GONE)
            if not self._read(at_once=over) and over:
                continue  # the last messages cannot be read now
            self._say(state)
            cause = self._judge(state, snapshot)
            if cause is not None:
                return self._ended(cause, snapshot)

    def _observe(self, snapshot: Snapshot) -> State:
        if snapshot.workload is None:  # just created, or deleted: the watch may be behind
            found = self._api.get(self._kind, self._group.namespace, self._group.name)
            snapshot.workload = found
        return observe(snapshot.workload, snapshot.pods, snapshot.events, self._group.shape.nodes)

    def _judge(self, state: State, snapshot: Snapshot) -> Cause | None:
        """The cause of the group's end; None while it goes on."""
        match state.phase:
            case Phase.SUCCEEDED:
                return Cause(None, "its pods ended well, but the stage sent no closing message")
            case Phase.FAILED:
                return self._cause_of_failure(state, snapshot)
            case Phase.GONE if self._closed:
                return Cause(None, "")
            case Phase.GONE:
                gone = f"{self._kind.name} {self._group.name} was deleted by someone else"
                return Cause("killed", f"{gone}; run again to start a new attempt")
        if state.phase is Phase.ENDING or (state.phase is Phase.RUNNING and self._closed):
            return self._left(state, snapshot)
        self._leaving_since = None
        self._closed = False  # if anything was closed, then the session of a pod that is being replaced
        return never_starts(state) or self._stopwatch.look(state)

    def _left(self, state: State, snapshot: Snapshot) -> Cause | None:
        """The cause, if pods do not end although the stage or the cluster has decided that they shall."""
        self._leaving_since = self._leaving_since or time.monotonic()
        if time.monotonic() - self._leaving_since < self._group.shape.grace_seconds + _LINGER:
            return None
        if self._closed:
            return Cause(None, "")
        return self._cause_of_failure(state, snapshot)

    def _cause_of_failure(self, state: State, snapshot: Snapshot) -> Cause:
        """Asks for the pods once more: the watch of pods may be behind that of Jobs."""
        seen = [*snapshot.gone, *snapshot.pods]
        snapshot.pods, _ = self._api.list(POD, self._group.namespace, self._group.selector)
        pods = [read_pod(pod) for pod in snapshot.pods]
        there = {pod.uid for pod in pods}
        gone = [pod for pod in map(read_pod, seen) if pod.uid not in there]
        return why_failed(replace(state, pods=tuple(pods)), gone, self._print(snapshot))

    def _print(self, snapshot: Snapshot) -> Mapping[str, str]:
        """The last lines of the containers, asked for once."""
        if self._printed is None:
            self._printed = logs.last_lines(self._api, self._group.namespace, snapshot.pods)
        return self._printed

    def _read(self, at_once: bool = True) -> bool:
        """Hand over new messages; False if they cannot be had now. Raises ContactLostError in the end."""
        clock = time.monotonic()
        if not at_once and clock - self._read_at < self._message_seconds:
            return True
        self._read_at = clock
        try:
            messages = self._reader.read()
        except (StoreError, FileNotFoundError) as error:
            self._unread_since = self._unread_since or clock
            if clock - self._unread_since > self._api.budget:
                raise ContactLostError(
                    f"cannot read the messages of {self._group.name}: {error}; it is left running, and the "
                    "next run attaches to it"
                ) from error
            return False
        self._unread_since = None
        for message in messages:
            self._take(message)
        return True

    def _take(self, message: Message) -> None:
        if message["method"] == "opened":
            self._opened, self._closed = True, False
            self._stopwatch.opened()
        elif message["method"] == "closed":
            self._closed = True
        advanced = _advanced(message)
        if advanced is None or advanced != self._advanced:
            self._stopwatch.heard()
        self._advanced = advanced or self._advanced
        self._handle(message)

    def _say(self, state: State) -> None:
        said = f"{self._group.name} is {state.phase}" + (f": {state.detail}" if state.detail else "")
        if said != self._told:
            self._told = said
            self._tell(said)

    def _check_contact(self, mirror: Mirror) -> None:
        failing = mirror.failing(self._kind)
        if failing is None:
            return
        since, problem = failing
        refused = isinstance(problem, ApiError) and problem.status in (401, 403)
        patience = min(self._api.budget, _REFUSED) if refused else self._api.budget
        if time.monotonic() - since > patience:
            step = "; its ServiceAccount or user needs get, list, watch on jobs and pods" if refused else ""
            raise ContactLostError(
                f"cannot follow {self._group.name} at {self._api.host}: {problem}{step}; it is left running, "
                "and the next run attaches to it"
            )

    def _ended(self, cause: Cause, snapshot: Snapshot | None) -> Ended:
        pods = [read_pod(pod) for pod in (snapshot.pods or snapshot.gone)] if snapshot else []
        start = min((pod.started for pod in pods if pod.started), default=self._created)
        finished = [pod.finished for pod in pods if pod.finished]
        end = max(finished) if pods and len(finished) == len(pods) else now()
        codes = sorted({pod.exit_code for pod in pods if pod.exit_code is not None}, reverse=True)
        printed = ""
        if snapshot is not None and not (cause.label is None and self._closed):
            printed = logs.joined(self._print(snapshot))
        return Ended(
            start=min(start, end),
            end=end,
            hosts=tuple(sorted({pod.node for pod in pods if pod.node})),
            exit_code=codes[0] if codes else None,
            printed=printed,
            label=cause.label,
            detail=cause.text,
        )


def _advanced(message: Message) -> float | None:
    """When the stage itself last said anything, of a heartbeat; None of any other message."""
    payload = (message.get("params") or {}).get("payload")
    if not isinstance(payload, dict) or payload.get("event") != "heartbeat":
        return None
    return float(payload["advanced"])


def _refused(error: ApiError, kind: str, name: str, namespace: str) -> str:
    steps = {
        401: "the credentials of the kubeconfig or ServiceAccount are not valid any more",
        403: f"give the user or ServiceAccount the right to create it in {namespace}, or raise the quota",
        404: f"create the namespace {namespace}, or install what defines a {kind}",
        422: "correct the pod shape or the pod template",
    }
    step = steps.get(error.status, "correct the pod shape or the pod template")
    return f"the cluster refused {kind} {name}: {error}; {step}"
