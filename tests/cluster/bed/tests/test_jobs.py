"""The Job controller against what Kubernetes' documentation of Jobs says."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.bed import Bed, steps
from tests.cluster.bed.job_status import format_indexes, parse_indexes
from tests.cluster.bed.tests.conftest import Clients
from tests.cluster.bed.tests.manifests import job

WELL = (*steps.BEGIN, steps.exit(0))


def conditions(bed: Bed, name: str = "train") -> dict[str, tuple[str, str]]:
    found = bed.get("jobs", name)["status"].get("conditions", ())
    return {entry["type"]: (entry["status"], entry["reason"]) for entry in found}


def end(bed: Bed, name: str = "train", kind: str = "Failed") -> dict[str, Any]:
    bed.wait(lambda: kind in conditions(bed, name), what=f"{kind} of {name}")
    return bed.get("jobs", name)["status"]


def reasons(bed: Bed, name: str = "train") -> list[str]:
    return [event["reason"] for event in bed.objects("events") if event["involvedObject"]["name"] == name]


def test_an_indexed_job_gives_each_pod_its_index(bed: Bed, api: Clients) -> None:
    bed.otherwise(*WELL)
    api.batch.create_namespaced_job("default", job("train", size=3))
    status = end(bed, kind="Complete")
    assert conditions(bed) == {
        "SuccessCriteriaMet": ("True", "CompletionsReached"),
        "Complete": ("True", "CompletionsReached"),
    }
    assert (status["succeeded"], status["completedIndexes"]) == (3, "0-2")
    assert status["startTime"] <= status["completionTime"]
    assert "active" not in status
    pods = {
        pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]: pod
        for pod in bed.pods("train")
    }
    assert sorted(pods) == ["0", "1", "2"]
    for index, pod in pods.items():
        assert pod["spec"]["hostname"] == f"train-{index}"
        assert pod["metadata"]["name"].startswith(f"train-{index}-")
        (owner,) = pod["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("Job", "train", True)
        assert "finalizers" not in pod["metadata"], "pods that were counted lose the tracking finalizer"
    assert reasons(bed).count("SuccessfulCreate") == 3
    assert "Completed" in reasons(bed)


def test_parallelism_below_completions_takes_turns(bed: Bed, api: Clients) -> None:
    most = []
    bed.storage.listeners.append(
        lambda _: most.append(len([p for p in bed.pods("train") if p["status"]["phase"] == "Running"]))
    )
    bed.otherwise(*steps.BEGIN, steps.sleep(0.02), steps.exit(0))
    api.batch.create_namespaced_job("default", job("train", size=5, parallelism=2))
    end(bed, kind="Complete")
    assert max(most) == 2


def test_backoff_limit_zero_fails_with_the_first_pod_and_ends_the_others(bed: Bed, api: Clients) -> None:
    bed.script("train", *steps.BEGIN, steps.exit(3), index=1)
    bed.otherwise(*steps.BEGIN, steps.sleep())
    api.batch.create_namespaced_job("default", job("train", size=2))
    status = end(bed)
    assert conditions(bed)["Failed"] == ("True", "BackoffLimitExceeded")
    assert conditions(bed)["FailureTarget"] == ("True", "BackoffLimitExceeded")
    assert status["failed"] >= 1
    assert "active" not in status
    failed = [pod for pod in bed.pods("train") if pod["metadata"]["labels"]["job-name"] == "train"]
    assert [p["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] for p in failed] == [3]


def test_failed_waits_for_the_last_pod(bed: Bed, api: Clients) -> None:
    """FailureTarget says early what Failed says when nothing runs any more."""
    bed.script("train", *steps.BEGIN, steps.sleep(0.05), steps.exit(3), index=1)
    bed.otherwise(*steps.BEGIN, steps.lose_node(tolerated=60))
    api.batch.create_namespaced_job("default", job("train", size=2))
    end(bed, kind="FailureTarget")
    bed.wait(lambda: bed.get("jobs", "train")["status"]["terminating"] == 1)
    assert "Failed" not in conditions(bed)
    (stuck,) = [pod for pod in bed.pods("train") if pod["status"]["phase"] == "Running"]
    bed.kubelet.collect(("default", stuck["metadata"]["name"]))
    end(bed)


def test_retries_up_to_the_backoff_limit(bed: Bed, api: Clients) -> None:
    bed.script("train", *steps.BEGIN, steps.exit(1), attempt=1)
    bed.script("train", *steps.BEGIN, steps.exit(1), attempt=2)
    bed.script("train", *WELL, attempt=3)
    api.batch.create_namespaced_job("default", job("train", backoffLimit=2))
    status = end(bed, kind="Complete")
    assert (status["failed"], status["succeeded"]) == (2, 1)
    bed.otherwise(*steps.BEGIN, steps.exit(1))
    api.batch.create_namespaced_job("default", job("again", backoffLimit=1))
    assert end(bed, "again")["failed"] == 2


def rule(action: str, **more: Any) -> dict[str, Any]:
    return {"action": action, **more}


DISRUPTED = [{"type": "DisruptionTarget"}]


def test_disruptions_that_are_ignored_do_not_count(bed: Bed, api: Clients) -> None:
    policy = {"rules": [rule("Ignore", onPodConditions=DISRUPTED)]}
    bed.script("train", *steps.BEGIN, steps.preempt(), attempt=1)
    bed.script("train", *steps.BEGIN, steps.evict(), attempt=2)
    bed.script("train", *WELL, attempt=3)
    api.batch.create_namespaced_job("default", job("train", podFailurePolicy=policy))
    status = end(bed, kind="Complete")
    assert "failed" not in status
    assert status["succeeded"] == 1


def test_an_exit_code_fails_the_job_in_spite_of_retries(bed: Bed, api: Clients) -> None:
    codes = {"containerName": "main", "operator": "In", "values": [2, 42]}
    policy = {"rules": [rule("Ignore", onPodConditions=DISRUPTED), rule("FailJob", onExitCodes=codes)]}
    bed.otherwise(*steps.BEGIN, steps.exit(42))
    api.batch.create_namespaced_job("default", job("train", backoffLimit=5, podFailurePolicy=policy))
    end(bed)
    assert conditions(bed)["Failed"] == ("True", "PodFailurePolicy")
    (pod,) = bed.pods("train")
    told = [c["message"] for c in bed.get("jobs", "train")["status"]["conditions"] if c["type"] == "Failed"]
    name = f"default/{pod['metadata']['name']}"
    assert told == [
        f"Container main for pod {name} failed with exit code 42 matching FailJob rule at index 1"
    ]


def test_a_terminating_pod_is_replaced_only_when_it_has_ended(bed: Bed, api: Clients) -> None:
    policy = {"rules": [rule("Ignore", onPodConditions=DISRUPTED)]}
    bed.script("train", *steps.BEGIN, steps.lose_node(), attempt=1)
    bed.script("train", *WELL, attempt=2)
    api.batch.create_namespaced_job("default", job("train", podFailurePolicy=policy))
    bed.wait(lambda: bed.get("jobs", "train")["status"].get("terminating") == 1)
    (pod,) = bed.pods("train")
    bed.kubelet.collect(("default", pod["metadata"]["name"]))
    end(bed, kind="Complete")


def test_suspension_ends_pods_without_counting_them(bed: Bed, api: Clients) -> None:
    bed.otherwise(*steps.BEGIN, steps.sleep())
    api.batch.create_namespaced_job("default", job("train", suspend=True))
    bed.wait(lambda: conditions(bed) == {"Suspended": ("True", "JobSuspended")})
    assert bed.pods() == []
    assert "startTime" not in bed.get("jobs", "train")["status"]
    bed.edit("jobs", "train", lambda item: item["spec"].update(suspend=False))
    bed.wait(lambda: bed.get("jobs", "train")["status"].get("ready") == 1)
    assert conditions(bed) == {"Suspended": ("False", "JobResumed")}
    bed.edit("jobs", "train", lambda item: item["spec"].update(suspend=True))
    bed.wait(lambda: not bed.pods())
    bed.wait(lambda: conditions(bed) == {"Suspended": ("True", "JobSuspended")})
    assert "failed" not in bed.get("jobs", "train")["status"]
    bed.otherwise(*WELL)
    bed.edit("jobs", "train", lambda item: item["spec"].update(suspend=False))
    end(bed, kind="Complete")
    assert [reason for reason in reasons(bed) if reason in ("Suspended", "Resumed")] == [
        "Suspended",
        "Resumed",
    ]


def test_deadline_and_ttl(bed: Bed, api: Clients) -> None:
    bed.otherwise(*steps.BEGIN, steps.sleep())
    spec = {"activeDeadlineSeconds": 1, "ttlSecondsAfterFinished": 1}
    api.batch.create_namespaced_job("default", job("train", **spec))
    end(bed)
    assert conditions(bed)["Failed"] == ("True", "DeadlineExceeded")
    bed.wait(lambda: not bed.objects("jobs") and not bed.objects("pods"))


def test_a_deleted_pod_is_replaced_under_the_same_index(bed: Bed, api: Clients) -> None:
    bed.otherwise(*steps.BEGIN, steps.sleep())
    api.batch.create_namespaced_job("default", job("train", backoffLimit=1))
    first = bed.wait(lambda: bed.pods("train"))[0]["metadata"]["name"]
    bed.wait(lambda: bed.get("jobs", "train")["status"].get("ready") == 1)
    api.core.delete_namespaced_pod(first, "default")
    second = bed.wait(lambda: [p for p in bed.pods("train") if p["metadata"]["name"] != first])[0]
    assert second["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == "0"
    bed.wait(lambda: bed.get("jobs", "train")["status"].get("failed") == 1)


@pytest.mark.parametrize(
    ("text", "indexes"), [("", set()), ("0", {0}), ("0-2", {0, 1, 2}), ("1,3-5,7", {1, 3, 4, 5, 7})]
)
def test_completed_indexes_are_written_as_ranges(text: str, indexes: set[int | None]) -> None:
    assert parse_indexes(text) == indexes
    assert format_indexes(indexes) == text
