"""What the API server and the network do, most of it in mid-run, when the stage has said something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from codellm_dag.launch import StageFailedError
from tests.cluster.bed import steps
from tests.cluster.faults import GROUP, Cluster, cluster, in_mid_run
from tests.support.stores import own_cache

__all__ = ["cluster", "own_cache"]


def storm(cluster: Cluster) -> None:
    cluster.bed.faults.fail(code=503, times=12)
    cluster.bed.faults.close_watches()


def too_old(cluster: Cluster) -> None:
    cluster.bed.expire()
    cluster.bed.faults.close_watches()


NETWORK: dict[str, Callable[[Cluster], Any]] = {
    "503 storm while it is followed": storm,
    "watches that are closed": lambda c: c.bed.faults.close_watches(),
    "watches that break": lambda c: c.bed.faults.close_watches(cleanly=False),
    "a history that is too old (410)": too_old,
    "a watch that loses the end of the Job": lambda c: c.bed.faults.lose_event("jobs", times=50),
    "a watch that loses what pods do": lambda c: c.bed.faults.lose_event("pods", times=50),
    "a watch that tells everything twice": lambda c: c.bed.faults.repeat_event(times=50),
    "a server that does not answer": lambda c: (c.bed.faults.stall(3, times=3), c.bed.faults.close_watches()),
    "answers that never come": lambda c: (c.bed.faults.drop(times=6), c.bed.faults.close_watches()),
}


@pytest.mark.parametrize("name", NETWORK)
def test_the_api_servers_troubles_are_none_of_the_stages(name: str, cluster: Cluster) -> None:
    in_mid_run(cluster, lambda: NETWORK[name](cluster))
    outcome = cluster.run(budget=20)
    assert outcome.manifest.attempt == "a1"
    assert [step for step, _ in outcome.manifest.series["loss"]] == [0, 1]
    assert cluster.ledger == [("a1", "ok")]
    assert cluster.bed.journal.count("create", "jobs") == 1
    assert cluster.bed.journal.count("delete", "jobs") == 0


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        (lambda faults: faults.fail("create", "jobs", code=429, retry_after=1), 2),
        (lambda faults: faults.fail("create", "jobs", code=500, times=2), 3),
        (lambda faults: faults.drop("create", "jobs"), 2),
        (lambda faults: faults.drop("create", "jobs", applied=True), 2),
    ],
    ids=["429", "500 twice", "dropped", "dropped after it took effect: 409 at the second try"],
)
def test_a_create_that_fails_for_now(fault, requests: int, cluster: Cluster) -> None:
    cluster.bed.otherwise(*cluster.stage.succeeds())
    fault(cluster.bed.faults)
    cluster.run()
    assert cluster.ledger == [("a1", "ok")]
    assert cluster.bed.journal.count("create", "jobs") == requests
    assert cluster.jobs == [GROUP]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (422, "refused Job words-.*422.*correct the pod shape"),
        (403, "refused Job words-.*403.*give the user or ServiceAccount the right"),
    ],
)
def test_a_create_that_is_refused_is_not_repeated(code: int, says: str, cluster: Cluster) -> None:
    cluster.bed.faults.fail("create", "jobs", code=code, times=9)
    with pytest.raises(StageFailedError, match=says) as failed:
        cluster.run({"infra_retries": 2})
    assert failed.value.label == "error"
    assert cluster.bed.journal.count("create", "jobs") == 1


def test_a_namespace_that_does_not_exist(cluster: Cluster) -> None:
    with pytest.raises(StageFailedError, match="create the namespace nowhere"):
        cluster.run({"namespace": "nowhere"})


def test_lost_contact_leaves_the_group_running_and_the_next_run_attaches(cluster: Cluster) -> None:
    stage, bed = cluster.stage, cluster.bed

    def cut_off() -> None:
        bed.faults.fail(code=503, times=10_000)
        bed.faults.close_watches()

    in_mid_run(cluster, cut_off, steps.sleep(2), stage.progress())
    with pytest.raises(StageFailedError, match="is left running, and the next run attaches to it") as failed:
        cluster.run({"infra_retries": 2}, budget=1)
    assert failed.value.label == "infra"
    assert cluster.ledger == []
    bed.faults.clear()
    assert cluster.run().manifest.attempt == "a1"
    assert [event.message for event in cluster.events if event.type == "started"][1].startswith("attached to")
    assert cluster.ledger == [("a1", "ok")]
    assert cluster.jobs == [GROUP]
