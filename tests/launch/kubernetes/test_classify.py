"""Why groups failed: pods, conditions and output to a label, each as real clusters write it."""

from __future__ import annotations

import pytest

from codellm_dag.launch.kubernetes.classify import never_starts, why_failed
from codellm_dag.launch.kubernetes.state import observe, read_pod
from tests.launch.kubernetes.objects import disrupted, job, pod

FAILED = {"type": "Failed", "reason": "PodFailurePolicy", "message": "Container stage failed"}
DEADLINE = {
    "type": "Failed",
    "reason": "DeadlineExceeded",
    "message": "Job was active longer than specified deadline",
}


def ended(code: int, reason: str = "Error", message: str = "") -> dict:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


PODS = {
    "OOMKilled": (pod("Failed", **ended(137, "OOMKilled")), "oom", "raise `memory`"),
    "OOMKilled of an older kubelet": (
        pod("Failed", **ended(137, "Error", "Memory cgroup out of memory")),
        "oom",
        "ran out of memory",
    ),
    "evicted": (
        pod(
            "Failed",
            disrupted("TerminationByKubelet", "The node was low on resource: memory"),
            reason="Evicted",
        ),
        "evicted",
        "TerminationByKubelet: The node was low on resource: memory",
    ),
    "evicted, without the condition": (
        pod("Failed", reason="Evicted", message="The node was low on resource: memory"),
        "evicted",
        "The node was low on resource",
    ),
    "node shut down": (
        pod(
            "Failed", reason="Terminated", message="Pod was terminated in response to imminent node shutdown."
        ),
        "evicted",
        "imminent node shutdown",
    ),
    "pre-empted": (
        pod("Failed", disrupted("PreemptionByScheduler", "preempting to accommodate a higher priority pod")),
        "evicted",
        "PreemptionByScheduler",
    ),
    "pre-empted and killed": (
        pod("Failed", disrupted("PreemptionByScheduler"), **ended(137, "ContainerStatusUnknown")),
        "evicted",
        "PreemptionByScheduler",
    ),
    "own disk": (
        pod(
            "Failed",
            disrupted("TerminationByKubelet"),
            reason="Evicted",
            message='Usage of EmptyDir volume "tmp" exceeds the limit "1Gi".',
        ),
        "error",
        "raise `ephemeral_storage`",
    ),
    "rejected": (
        pod("Failed", reason="UnexpectedAdmissionError", message="Allocate failed due to no healthy devices"),
        "infra",
        "rejected by its node: UnexpectedAdmissionError: Allocate failed",
    ),
    "rejected for want of GPUs": (
        pod("Failed", reason="OutOfnvidia.com/gpu", message="Node didn't have enough resource"),
        "infra",
        "rejected by its node: OutOfnvidia.com/gpu",
    ),
    "node lost": (
        pod("Failed", reason="NodeLost", message="Node is lost"),
        "infra",
        "lost with its node node-1",
    ),
    "deleted by hand": (
        pod("Failed", deleted=True, **ended(143)),
        "evicted",
        "deleted by someone else",
    ),
    "just an exit code": (
        pod("Failed", **ended(3)),
        "infra",
        "ended with exit code 3 without a closing message",
    ),
    "no such program": (
        pod("Failed", **ended(128, "StartError", "exec: python: not found")),
        "infra",
        r"exit code 128 \(StartError\)",
    ),
}


@pytest.mark.parametrize("name", PODS)
def test_by_the_pod(name: str) -> None:
    failed, label, says = PODS[name]
    cause = why_failed(observe(job(FAILED), [failed], [], 1), [], {})
    assert cause.label == label
    assert says.replace("\\", "") in cause.text


OUTPUT = {
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB": "oom",
    "torch.cuda.OutOfMemoryError: CUDA out of memory.": "oom",
    "RuntimeError: CUDA error: CUDA_ERROR_OUT_OF_MEMORY": "oom",
    "numpy.core._exceptions._ArrayMemoryError: MemoryError": "oom",
    "terminate called after throwing an instance of 'std::bad_alloc'": "oom",
    "torch.distributed.DistBackendError: NCCL error in: ../ncclUtils.hpp:219, remote process exited": "infra",
    "[Rank 3] Watchdog caught collective operation timeout: NCCL WorkNCCL timeout": "infra",
    "torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError": "infra",
    "torch.distributed.DistNetworkError: The client socket has timed out after 60s": "infra",
    "RuntimeError: [../gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.3]:4711": "infra",
}


@pytest.mark.parametrize(("line", "label"), OUTPUT.items())
def test_by_what_was_printed(line: str, label: str) -> None:
    state = observe(job(FAILED), [pod("Failed", **ended(1))], [], 1)
    cause = why_failed(state, [], {"train-a1-0/stage": f"step 1\n{line}\nmore"})
    assert cause.label == label
    assert line in cause.text


def test_words_that_only_look_like_trouble_are_none() -> None:
    state = observe(job(FAILED), [pod("Failed", **ended(1))], [], 1)
    cause = why_failed(state, [], {"p/stage": "NCCL version 2.27.3\nValueError: memory is a bad name"})
    assert "exit code 1" in cause.text


def test_the_one_that_failed_is_to_blame_not_those_deleted_for_it() -> None:
    blamed = pod("Failed", index=1, **ended(137, "OOMKilled"))
    others = [pod("Running", index=0, deleted=True), pod("Failed", index=2, deleted=True, **ended(143))]
    assert why_failed(observe(job(FAILED), [*others, blamed], [], 3), [], {}).label == "oom"
    blamed = pod("Failed", index=1, **ended(7))
    assert "exit code 7" in why_failed(observe(job(FAILED), [*others, blamed], [], 3), [], {}).text


def test_a_pod_that_is_gone_is_remembered() -> None:
    gone = read_pod(pod("Running", disrupted("EvictionByEvictionAPI", "drained"), deleted=True))
    cause = why_failed(observe(job(FAILED), [], [], 1), [gone], {})
    assert (cause.label, "EvictionByEvictionAPI: drained" in cause.text) == ("evicted", True)


def test_the_clusters_own_deadline() -> None:
    cause = why_failed(observe(job(DEADLINE), [], [], 1), [], {})
    assert cause.label == "over_budget"
    assert "active longer than specified deadline" in cause.text


def test_a_disrupted_pod_that_nobody_saw_go() -> None:
    said = "Pod default/train-a1-1-x has condition DisruptionTarget matching FailJob rule at index 0"
    failed = {"type": "Failed", "reason": "PodFailurePolicy", "message": said}
    cause = why_failed(observe(job(failed), [], [], 2), [], {})
    assert (cause.label, said in cause.text) == ("evicted", True)


def test_no_pod_to_look_at() -> None:
    cause = why_failed(observe(job(FAILED), [], [], 1), [], {})
    assert cause.label == "infra"
    assert "PodFailurePolicy: Container stage failed" in cause.text


def test_what_cannot_come_is_not_waited_for() -> None:
    waiting = {"waiting": {"reason": "InvalidImageName", "message": "couldn't parse image"}}
    cause = never_starts(observe(job(), [pod("Pending", **waiting)], [], 1))
    assert cause is not None
    assert (cause.label, "couldn't parse image" in cause.text) == ("error", True)
    pulling = {"waiting": {"reason": "ErrImagePull", "message": "timeout"}}
    assert never_starts(observe(job(), [pod("Pending", **pulling)], [], 1)) is None
