"""Deletion: grace, finalizers, propagation to dependents."""

from __future__ import annotations

import json

import pytest
import urllib3
from kubernetes.client import ApiException, V1DeleteOptions, V1Preconditions

from tests.cluster.bed import Bed, steps
from tests.cluster.bed.tests.conftest import Clients
from tests.cluster.bed.tests.manifests import job, pod


def running(bed: Bed, api: Clients, name: str = "train", size: int = 1, **pods: object) -> None:
    """A Job whose pods run for good."""
    bed.otherwise(*steps.BEGIN, steps.sleep())
    api.batch.create_namespaced_job("default", job(name, size=size, pods=dict(pods)))
    bed.wait(lambda: bed.get("jobs", name)["status"].get("ready") == size)


def test_jobs_orphan_their_pods_unless_told_otherwise(bed: Bed, api: Clients) -> None:
    """As the API's documentation and kubectl's warning say."""
    running(bed, api)
    url = f"{bed.url}/apis/batch/v1/namespaces/default/jobs/train"
    assert "child pods are preserved by default" in urllib3.request("DELETE", url).headers["Warning"]
    bed.wait(lambda: not bed.objects("jobs"))
    (pod,) = bed.pods()
    bed.wait(lambda: "finalizers" not in bed.pods()[0]["metadata"])
    assert "ownerReferences" not in bed.pods()[0]["metadata"]
    assert pod["status"]["phase"] == "Running"


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
def test_pods_go_with_their_job(bed: Bed, api: Clients, policy: str) -> None:
    running(bed, api, size=2)
    orders = []
    bed.storage.listeners.append(
        lambda entry: orders.append(entry.resource.kind) if entry.change == "DELETED" else None
    )
    answer = api.batch.delete_namespaced_job("train", "default", propagation_policy=policy)
    if policy == "Background":
        assert answer["status"] == "Success"
    bed.wait(lambda: not bed.objects("pods") and not bed.objects("jobs"))
    gone = [kind for kind in orders if kind in ("Job", "Pod")]
    assert gone == {"Background": ["Job", "Pod", "Pod"], "Foreground": ["Pod", "Pod", "Job"]}[policy]


def test_the_old_name_is_taken_until_its_pods_are_gone(bed: Bed, api: Clients) -> None:
    running(bed, api)
    (old,) = bed.pods()
    bed.kubelet.lose_node(("default", old["metadata"]["name"]), tolerated=60)
    api.batch.delete_namespaced_job("train", "default", propagation_policy="Foreground")
    with pytest.raises(ApiException) as caught:
        api.batch.create_namespaced_job("default", job("train"))
    assert json.loads(caught.value.body)["message"].startswith("object is being deleted: ")
    bed.wait(lambda: bed.pods()[0]["metadata"].get("deletionTimestamp"))
    bed.kubelet.collect(("default", old["metadata"]["name"]))
    bed.wait(lambda: not bed.objects("jobs"))


def test_grace_is_the_pods_own_unless_the_request_names_one(bed: Bed, api: Clients) -> None:
    bed.otherwise(*steps.BEGIN, steps.sleep())
    manifest = pod("p", terminationGracePeriodSeconds=7)
    api.core.create_namespaced_pod("default", manifest)
    bed.wait(lambda: bed.get("pods", "p")["status"]["phase"] == "Running")
    assert api.core.delete_namespaced_pod("p", "default").metadata.deletion_grace_period_seconds == 7
    bed.wait(lambda: not bed.objects("pods"))


def test_a_pod_without_a_node_is_gone_at_once(bed: Bed, api: Clients) -> None:
    bed.otherwise(steps.unschedulable())
    api.core.create_namespaced_pod("default", pod("p"))
    api.core.delete_namespaced_pod("p", "default")
    assert bed.objects("pods") == []


def test_preconditions(bed: Bed, api: Clients) -> None:
    bed.otherwise(steps.sleep())
    api.core.create_namespaced_pod("default", pod("p"))
    options = V1DeleteOptions(preconditions=V1Preconditions(uid="of-another"))
    with pytest.raises(ApiException) as caught:
        api.core.delete_namespaced_pod("p", "default", body=options)
    assert caught.value.status == 409
    assert "Precondition failed: UID" in json.loads(caught.value.body)["message"]


def test_foreign_finalizers_hold_an_object(bed: Bed, api: Clients) -> None:
    manifest = job("train", suspend=True)
    manifest["metadata"]["finalizers"] = ["example.com/hold"]
    api.batch.create_namespaced_job("default", manifest)
    api.batch.delete_namespaced_job("train", "default", propagation_policy="Background")
    held = api.batch.read_namespaced_job("train", "default")
    assert held.metadata.deletion_timestamp is not None
    bed.edit("jobs", "train", lambda item: item["metadata"].pop("finalizers"))
    assert bed.objects("jobs") == []


def test_a_collection_is_deleted_by_selector(bed: Bed, api: Clients) -> None:
    for name in ("a", "b", "c"):
        manifest = job(name, suspend=True)
        manifest["metadata"]["labels"] = {"keep": str(name == "c").lower()}
        api.batch.create_namespaced_job("default", manifest)
    api.batch.delete_collection_namespaced_job(
        "default", label_selector="keep=false", propagation_policy="Background"
    )
    assert [item["metadata"]["name"] for item in bed.objects("jobs")] == ["c"]


def test_a_dependent_whose_owner_is_gone_is_collected(bed: Bed, api: Clients) -> None:
    """A Service that names a Job as its owner goes with it."""
    made = api.batch.create_namespaced_job("default", job("train", suspend=True))
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": made.metadata.uid}
    meta = {"name": "train", "ownerReferences": [owner]}
    api.core.create_namespaced_service("default", {"metadata": meta, "spec": {"clusterIP": "None"}})
    api.batch.delete_namespaced_job("train", "default", propagation_policy="Background")
    bed.wait(lambda: not bed.objects("services"))
