"""Why a group failed: from its pods, its workload's condition and what its containers printed, to a label.

Pure. The stage's own closing message is weighed against this in `bookkeeping.verdict`; here is only what the
cluster saw. ``None`` as label means that the cluster saw nothing but an exit code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codellm_dag.launch.kubernetes.state import Pod, State
from codellm_dag.store.manifest import Label

_EVICTED = ("Evicted", "Preempting", "Preempted", "Shutdown", "NodeShutdown", "Terminated")
_REJECTED = re.compile(r"OutOf\S+|UnexpectedAdmissionError|NodeAffinity|PodOSNotSupported|.*Taint.*")
_OWN_LIMIT = re.compile(r"exceeds the (total )?limit|exceed.*limit of", re.IGNORECASE)
"""An eviction that the pod brought upon itself: its next pod would fare the same."""
_CUDA_MEMORY = re.compile(r"CUDA out of memory|torch\.(cuda\.)?OutOfMemoryError|CUDA_ERROR_OUT_OF_MEMORY")
_HOST_MEMORY = re.compile(r"\bMemoryError\b|std::bad_alloc|Cannot allocate memory")
_NETWORK = re.compile(
    r"\bNCCL\b.*(error|timeout|abort|watchdog)|ncclSystemError|ncclUnhandledCudaError|ncclRemoteError"
    r"|Rendezvous\w*(Error|Exception|Timeout)|DistNetworkError|DistStoreError|DistBackendError"
    r"|Connection closed by (remote )?peer|Broken pipe.*gloo|Gloo\b.*(error|timeout)",
    re.IGNORECASE,
)
_NEVER_STARTS = {
    "InvalidImageName": "correct `image` in the pod shape",
    "ErrImageNeverPull": "load the image on the node, or let it be pulled",
}


@dataclass(frozen=True)
class Cause:
    """A label, or None, and what happened with the next step."""

    label: Label | None
    text: str


def why_failed(state: State, gone: Sequence[Pod], printed: Mapping[str, str]) -> Cause:
    """The cause of a workload that failed. `printed` is the last output by ``pod/container``."""
    pods = [*state.pods, *gone]
    if "DeadlineExceeded" in state.reason:
        return Cause(
            "over_budget", f"the cluster ended it: {state.reason}; raise deadlines.run, or train for less"
        )
    failed = [pod for pod in pods if pod.phase in ("Failed", "Unknown") or pod.deleted or pod in gone]
    failed.sort(key=lambda pod: pod.deleted)  # the others' pods are deleted once one has failed
    for rule in (_own_limit, _memory, _rejected, _disrupted, _lost):
        for pod in failed:
            cause = rule(pod)
            if cause is not None:
                return cause
    if "DisruptionTarget" in state.reason:  # its pod is gone already, but the Job says why it failed
        return Cause("evicted", f"a pod was disrupted: {state.reason}")
    for place, text in printed.items():
        cause = _from_output(place, text)
        if cause is not None:
            return cause
    for pod in failed:
        if pod.exit_code is not None:
            return _from_exit_code(pod)
    for pod in failed:
        if pod.deleted or pod in gone:
            return Cause("evicted", f"pod {pod.name} was deleted by someone else")
    return Cause(
        "infra", f"its Job failed ({state.reason or 'no reason is given'}) and left no pod to look at"
    )


def never_starts(state: State) -> Cause | None:
    """The cause of a group that waits for what cannot come."""
    for pod in state.pods:
        reason = pod.waiting.partition(":")[0]
        if reason in _NEVER_STARTS:
            return Cause("error", f"pod {pod.name} cannot start: {pod.waiting}; {_NEVER_STARTS[reason]}")
        if pod.phase == "Failed":
            cause = _own_limit(pod)
            if cause is not None:
                return cause
    return None


def _own_limit(pod: Pod) -> Cause | None:
    if pod.reason == "Evicted" and _OWN_LIMIT.search(pod.message):
        return Cause(
            "error",
            f"pod {pod.name} was evicted for its own use of disk: {pod.message}; raise `ephemeral_storage` "
            "or `shared_memory` in the pod shape",
        )
    return None


def _memory(pod: Pod) -> Cause | None:
    if pod.ended_by == "OOMKilled" or (pod.exit_code == 137 and "memory" in pod.ended_message.lower()):
        return Cause(
            "oom",
            f"pod {pod.name} ran out of memory (OOMKilled, exit code {pod.exit_code}); raise `memory` in the "
            "pod shape, or make batches or workers fewer",
        )
    return None


def _disrupted(pod: Pod) -> Cause | None:
    if pod.disruption:
        return Cause("evicted", f"pod {pod.name} was disrupted: {pod.disruption}")
    if pod.reason in _EVICTED:
        return Cause("evicted", f"pod {pod.name} was evicted: {pod.reason}: {pod.message}".rstrip(": "))
    return None


def _rejected(pod: Pod) -> Cause | None:
    if pod.reason and _REJECTED.fullmatch(pod.reason):
        return Cause("infra", f"pod {pod.name} was rejected by its node: {pod.reason}: {pod.message}")
    return None


def _lost(pod: Pod) -> Cause | None:
    unknown = pod.ended_by == "ContainerStatusUnknown" and not pod.deleted
    if pod.reason == "NodeLost" or pod.phase == "Unknown" or unknown:
        words = pod.message or pod.ended_message or "it does not answer"
        return Cause("infra", f"pod {pod.name} was lost with its node {pod.node}: {words}")
    return None


def _from_output(place: str, text: str) -> Cause | None:
    for pattern, label, what in (
        (_CUDA_MEMORY, "oom", "ran out of GPU memory"),
        (_HOST_MEMORY, "oom", "ran out of memory"),
        (_NETWORK, "infra", "lost the connection to its peers"),
    ):
        found = next((line.strip() for line in text.splitlines() if pattern.search(line)), None)
        if found is not None:
            return Cause(label, f"{place} {what}: {found[:500]}")  # pyright: ignore[reportArgumentType]
    return None


def _from_exit_code(pod: Pod) -> Cause:
    why = f" ({pod.ended_by})" if pod.ended_by not in ("", "Error") else ""
    ended = f"pod {pod.name} ended with exit code {pod.exit_code}{why}"
    if pod.exit_code in (137, 143) and pod.deleted:
        return Cause("evicted", f"{ended}: it was deleted by someone else")
    return Cause("infra", f"{ended} without a closing message")
