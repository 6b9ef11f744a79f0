"""From objects to states: hand-made answers of an API server, as Kubernetes documents them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from codellm_dag.launch.kubernetes.state import Phase, newest_event, observe, read_pod
from tests.launch.kubernetes.objects import UNSCHEDULABLE, disrupted, event, job, pod

RUNNING = {"running": {"startedAt": "2026-01-01T00:00:05Z"}}
CREATING = {"waiting": {"reason": "ContainerCreating"}}
BACK_OFF = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}


@pytest.mark.parametrize(
    ("workload", "pods", "expected", "phase", "detail"),
    [
        (None, [], 1, Phase.GONE, ""),
        (job({"type": "Complete"}), [], 1, Phase.SUCCEEDED, ""),
        (job({"type": "Completed"}), [], 1, Phase.SUCCEEDED, ""),  # a JobSet says it so
        (job({"type": "SuccessCriteriaMet"}), [pod(**RUNNING)], 1, Phase.RUNNING, "on node-1"),
        (job({"type": "Failed"}), [], 1, Phase.FAILED, ""),
        (
            job({"type": "FailureTarget", "reason": "PodFailurePolicy"}),
            [],
            1,
            Phase.ENDING,
            "PodFailurePolicy",
        ),
        (job(deletionTimestamp="2026-01-01T00:00:00Z"), [], 1, Phase.ENDING, "it is being deleted"),
        (
            # its pods went with it, and the controller says that it failed
            job(
                {"type": "Failed", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                deletionTimestamp="2026-01-01T00:00:00Z",
            ),
            [],
            1,
            Phase.ENDING,
            "it is being deleted",
        ),
        (
            # it had failed before somebody tidied up
            job(
                {"type": "Failed", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                deletionTimestamp="2026-01-01T00:00:01Z",
            ),
            [],
            1,
            Phase.FAILED,
            "",
        ),
        (job({"type": "Suspended"}, suspend=True), [], 1, Phase.QUEUED, ""),
        (job(), [], 1, Phase.SCHEDULING, "0 of 1 pods are there"),
        (
            job(),
            [pod("Pending", UNSCHEDULABLE, node="")],
            1,
            Phase.SCHEDULING,
            "Unschedulable: 0/3 nodes are available",
        ),
        (job(), [pod("Pending", **CREATING)], 1, Phase.PULLING, ""),
        (job(), [pod("Pending", **BACK_OFF)], 1, Phase.PULLING, "ImagePullBackOff: Back-off pulling image"),
        (job(), [pod(**RUNNING)], 1, Phase.RUNNING, "on node-1"),
        (job(), [pod(**RUNNING)], 2, Phase.SCHEDULING, "1 of 2 pods are there"),
        (
            job(),
            [pod(**RUNNING), pod("Pending", UNSCHEDULABLE, index=1, node="")],
            2,
            Phase.SCHEDULING,
            "Unschedulable: 0/3 nodes are available",
        ),
        (
            job(),
            [pod(**RUNNING), pod(index=1, node="node-2", **RUNNING)],
            2,
            Phase.RUNNING,
            "on node-1, node-2",
        ),
        (
            job(),
            [pod("Unknown", reason="NodeLost", message="Node is lost")],
            1,
            Phase.LOST,
            "pod train-a1-0-00: NodeLost Node is lost",
        ),
    ],
)
def test_the_state_of_a_group(workload, pods, expected: int, phase: Phase, detail: str) -> None:
    state = observe(workload, pods, [], expected)
    assert (state.phase, state.detail) == (phase, detail)


def test_a_pod_that_is_replaced_is_not_the_state_of_the_group() -> None:
    """The controller keeps the failed pod and makes another of the same index."""
    evicted = pod("Failed", disrupted("TerminationByKubelet"), reason="Evicted")
    fresh = pod("Pending", created="2026-01-01T00:01:07Z", **CREATING)
    assert observe(job(), [fresh, evicted], [], 1).phase is Phase.PULLING
    assert observe(job(), [evicted], [], 1).phase is Phase.SCHEDULING


def test_a_pod_whose_node_is_cut_off_runs_no_more() -> None:
    """Its node cannot confirm the deletion, so that it looks as if it ran for ever."""
    cut_off = pod("Running", disrupted("DeletionByTaintManager", "node is out"), deleted=True, **RUNNING)
    state = observe(job(), [cut_off], [], 1)
    assert state.phase is Phase.LOST
    assert "DeletionByTaintManager: node is out" in state.detail


def test_the_newest_warning_is_quoted() -> None:
    events = [
        event("FailedScheduling", "0/3 nodes are available", "2026-01-01T00:00:02Z"),
        event("FailedScheduling", "0/4 nodes are available", "2026-01-01T00:00:09Z"),
        event("TriggeredScaleUp", "pod triggered scale-up", "2026-01-01T00:00:10Z", "Normal"),
        event("Pulled", "Container image is there", "2026-01-01T00:00:11Z", "Normal"),
    ]
    assert newest_event(events) == "event FailedScheduling: 0/4 nodes are available"
    assert newest_event(events[2:]) == "event TriggeredScaleUp: pod triggered scale-up"
    assert newest_event(events[3:]) == ""
    waiting = pod("Pending", node="")
    assert observe(job(), [waiting], events, 1).detail == "event FailedScheduling: 0/4 nodes are available"


def test_what_is_read_of_a_pod() -> None:
    terminated = {
        "exitCode": 137,
        "reason": "OOMKilled",
        "startedAt": "2026-01-01T00:00:05Z",
        "finishedAt": "2026-01-01T00:09:00Z",
    }
    found = read_pod(pod("Failed", index=3, terminated=terminated))
    assert (found.index, found.exit_code, found.ended_by, found.node) == (3, 137, "OOMKilled", "node-1")
    assert found.started == datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
    assert found.finished == datetime(2026, 1, 1, 0, 9, tzinfo=UTC)
