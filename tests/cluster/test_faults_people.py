"""What people and queues do: delete a Job or a pod, cancel, move the orchestrator, suspend."""

from __future__ import annotations

import time

import pytest

from codellm_dag.launch import StageEvent, StageFailedError
from codellm_dag.launch.kubernetes.kinds import JOB, POD
from tests.cluster.bed import steps
from tests.cluster.faults import FOREVER, GROUP, Cluster, cluster, in_mid_run, interrupted, play, short
from tests.support.stores import own_cache

__all__ = ["cluster", "own_cache"]


def test_a_job_that_someone_deletes_is_not_run_again(cluster: Cluster) -> None:
    bed = cluster.bed

    def delete() -> None:
        assert cluster.api().delete(JOB, "default", GROUP), "it was there"

    in_mid_run(cluster, delete, FOREVER)
    with pytest.raises(StageFailedError, match="was deleted by someone else; run again") as failed:
        cluster.run({"infra_retries": 2, "preemptions": 2})
    assert failed.value.label == "killed"
    assert bed.journal.count("create", "jobs") == 1


def test_a_pod_that_someone_deletes_counts_as_a_pre_emption(cluster: Cluster) -> None:
    def delete() -> None:
        (pod,) = cluster.bed.pods(GROUP)
        cluster.api().delete(POD, "default", pod["metadata"]["name"])

    in_mid_run(cluster, delete, FOREVER)
    play(cluster.bed, [("a2", cluster.stage.succeeds())])
    assert cluster.run().manifest.attempt == "a2"
    assert cluster.ledger == [("a1", "evicted"), ("a2", "ok")]


def test_cancel_ends_the_whole_group_with_its_grace(cluster: Cluster) -> None:
    stage = cluster.stage
    cluster.bed.script("words-*", *steps.BEGIN, stage.opens(), stage.point(0), FOREVER)
    began = time.monotonic()
    interrupted(cluster, cancel=True)
    cluster.bed.wait(lambda: not cluster.bed.objects("jobs") and not cluster.bed.pods(), 5)
    assert time.monotonic() - began < 4
    (row,) = cluster.store.ledger.rows()
    assert (row.attempt, row.label, row.error) == ("a1", "killed", "cancelled")


def test_an_orchestrator_that_is_moved_leaves_the_group_and_attaches_later(cluster: Cluster) -> None:
    stage = cluster.stage
    end = (steps.sleep(0.5), stage.stores(), stage.closes(), steps.exit(0))
    cluster.bed.script("words-*", *steps.BEGIN, stage.opens(), stage.point(0), *end)
    interrupted(cluster, cancel=False)
    assert cluster.ledger == []
    assert cluster.jobs == [GROUP]
    assert cluster.run().manifest.attempt == "a1"
    assert cluster.bed.journal.count("delete", "jobs") == 0
    assert len(cluster.bed.pods(GROUP)) == 1


def test_a_job_that_ended_and_was_removed_while_nobody_followed_it(cluster: Cluster) -> None:
    stage = cluster.stage
    end = (stage.stores(), stage.closes(), steps.exit(0))
    cluster.bed.script("words-*", *steps.BEGIN, stage.opens(), stage.point(0), *end)
    interrupted(cluster, cancel=False)
    cluster.bed.wait(lambda: cluster.bed.get("jobs", GROUP)["status"].get("succeeded"))
    cluster.api().delete(JOB, "default", GROUP)
    cluster.bed.wait(lambda: not cluster.jobs)
    assert cluster.run().manifest.attempt == "a1"
    assert cluster.ledger == [("a1", "ok")]
    assert not cluster.jobs, "it is not run again"


QUEUE = {"queue": "team-a"}


def admit(cluster: Cluster, value: bool = True) -> None:
    cluster.bed.edit("jobs", GROUP, lambda job: job["spec"].update(suspend=not value))


def test_a_queue_that_never_admits(cluster: Cluster) -> None:
    with pytest.raises(
        StageFailedError, match=r"its queue did not admit it for 1 s.*deadlines.admission"
    ) as failed:
        cluster.run(QUEUE | short(admission=1))
    assert failed.value.label == "infra"
    assert cluster.bed.pods() == []
    assert cluster.asked("delete", 1) == 1


def test_a_queue_that_admits_later(cluster: Cluster) -> None:
    cluster.bed.otherwise(*cluster.stage.succeeds())

    def queued(event: StageEvent) -> None:
        if event.type == "log" and "is queued" in event.message:
            admit(cluster)

    cluster.run(QUEUE, on_event=queued)
    assert cluster.ledger == [("a1", "ok")]


def test_a_queue_that_takes_the_place_back_and_gives_it_again(cluster: Cluster) -> None:
    stage = cluster.stage
    cluster.bed.script("words-*", *stage.succeeds(first=1))
    cluster.bed.script("words-*", *steps.BEGIN, stage.opens(), stage.point(0), FOREVER, attempt=1)
    queued = []

    def act(event: StageEvent) -> None:
        if event.type == "log" and "is queued" in event.message:
            queued.append(event)
            cluster.bed.wait(lambda: not cluster.bed.pods(), 5)
            admit(cluster)
        elif event.type == "point" and len(queued) == 1:
            admit(cluster, False)

    outcome = cluster.run(QUEUE, on_event=act)
    assert len(queued) == 2
    assert cluster.ledger == [("a1", "ok"), ("a1.1", "evicted")]
    assert [step for step, _ in outcome.manifest.series["loss"]] == [0, 1, 2]
    assert cluster.bed.journal.count("create", "jobs") == 1
