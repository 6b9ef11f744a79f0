"""Objects behind the API: what is stored, refused, listed, patched."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
import urllib3
from kubernetes.client import ApiException

from tests.cluster.bed import Bed, steps
from tests.cluster.bed.tests.conftest import Clients
from tests.cluster.bed.tests.manifests import job, pod


@pytest.fixture(autouse=True)
def nothing_runs(bed: Bed) -> None:
    bed.otherwise(steps.sleep())


def posted(bed: Bed, manifest: dict[str, Any]) -> dict[str, Any]:
    """The Status of a Job that must be refused, sent as it is: the client has checks of its own."""
    answer = urllib3.request("POST", f"{bed.url}/apis/batch/v1/namespaces/default/jobs", json=manifest)
    status = answer.json()
    assert (status["kind"], status["code"]) == ("Status", answer.status)
    return status


def refused(call: Any, *arguments: Any, **named: Any) -> dict[str, Any]:
    """The Status of a request that must fail."""
    with pytest.raises(ApiException) as caught:
        call(*arguments, **named)
    status = json.loads(caught.value.body)
    assert (status["kind"], status["status"], status["code"]) == ("Status", "Failure", caught.value.status)
    return status


def test_a_name_is_given_once(api: Clients) -> None:
    made = api.batch.create_namespaced_job("default", job("one"))
    assert made.metadata.uid
    assert made.metadata.generation == 1
    status = refused(api.batch.create_namespaced_job, "default", job("one"))
    assert (status["code"], status["reason"]) == (409, "AlreadyExists")
    assert status["message"] == 'jobs.batch "one" already exists'
    assert status["details"] == {"name": "one", "group": "batch", "kind": "jobs"}
    api.batch.create_namespaced_job("other", job("one"))


def test_what_is_not_there_is_not_found(api: Clients) -> None:
    status = refused(api.core.read_namespaced_pod, "nobody", "default")
    assert (status["reason"], status["message"]) == ("NotFound", 'pods "nobody" not found')
    status = refused(api.batch.create_namespaced_job, "nowhere", job("one"))
    assert (status["code"], status["message"]) == (404, 'namespaces "nowhere" not found')


def test_generated_names(api: Clients) -> None:
    manifest = job("x")
    manifest["metadata"] = {"generateName": "train-"}
    made = {api.batch.create_namespaced_job("default", manifest).metadata.name for _ in range(2)}
    assert len(made) == 2
    assert all(name.startswith("train-") and len(name) == 11 for name in made)


def broken(path: str, value: Any) -> dict[str, Any]:
    """A good Job with one field replaced."""
    manifest: Any = job("one", size=2)
    place = manifest
    *parents, last = path.split(".")
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return manifest


POD = "spec.template.spec"
MAIN = f"{POD}.containers.0"
REFUSED = [
    ("spec.nosuch", 1, 400, 'strict decoding error: unknown field "spec.nosuch"'),
    ("spec.completions", "two", 400, "cannot unmarshal str into field spec.completions"),
    (f"{POD}.containers", None, 400, "cannot unmarshal NoneType"),
    ("metadata.name", "Not_A_Name", 422, "metadata.name: Invalid value"),
    ("metadata.labels", {"a": "x" * 64}, 422, "must be no more than 63 characters"),
    ("metadata.labels", {"a": "no spaces"}, 422, "a valid label must be"),
    (f"{POD}.restartPolicy", "Always", 422, 'supported values: "OnFailure", "Never"'),
    (f"{MAIN}.image", "", 422, f"{POD}.containers[0].image: Required value"),
    (f"{MAIN}.resources", {"limits": {"memory": "12Qx"}}, 422, "quantities must match"),
    (f"{MAIN}.resources", {"limits": {"cpu": "1"}, "requests": {"cpu": "1500m"}}, 422, "less than or equal"),
    (
        f"{MAIN}.resources",
        {"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "1"}},
        422,
        "must be equal to nvidia.com/gpu limit of 2",
    ),
    (f"{MAIN}.resources", {"requests": {"nvidia.com/gpu": "1"}}, 422, "Limit must be set"),
    (f"{MAIN}.volumeMounts", [{"name": "no", "mountPath": "/x"}], 422, 'Not found: "no"'),
    ("metadata.name", "a" * 62, 422, "must be no more than 63 characters"),
    ("spec.managedBy", "example.com/other", 422, "the test cluster does not implement it"),
    ("spec.completionMode", "Sorted", 422, 'supported values: "Indexed", "NonIndexed"'),
    (
        "spec.podFailurePolicy",
        {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 1]}}]},
        422,
        "must be ordered",
    ),
    (
        "spec.podFailurePolicy",
        {"rules": [{"action": "FailJob"}]},
        422,
        "specifying one of OnExitCodes and OnPodConditions",
    ),
]


@pytest.mark.parametrize(("path", "value", "code", "text"), REFUSED)
def test_bad_manifests_are_refused(bed: Bed, path: str, value: Any, code: int, text: str) -> None:
    status = posted(bed, broken(path, value))
    assert status["code"] == code
    assert text in status["message"]
    assert status["reason"] == {400: "BadRequest", 422: "Invalid"}[code]
    if code == 422:
        assert status["details"]["causes"]


def test_dry_run_stores_nothing(api: Clients, bed: Bed) -> None:
    api.batch.create_namespaced_job("default", job("one"), dry_run="All")
    assert bed.objects("jobs") == []
    status = refused(api.batch.create_namespaced_job, "default", job("A"), dry_run="All")
    assert status["code"] == 422


def test_defaults_that_a_launcher_reads(api: Clients) -> None:
    made = api.batch.create_namespaced_job("default", job("one"))
    uid = made.metadata.uid
    assert made.spec.selector.match_labels == {"batch.kubernetes.io/controller-uid": uid}
    assert made.spec.template.metadata.labels["job-name"] == "one"
    assert made.spec.pod_replacement_policy == "TerminatingOrFailed"
    assert made.spec.template.spec.termination_grace_period_seconds == 30
    container = made.spec.template.spec.containers[0]
    assert container.image_pull_policy == "IfNotPresent"
    assert made.spec.suspend is False


def test_selectors(api: Clients) -> None:
    for name, labels in (("a", {"app": "x", "n": "1"}), ("b", {"app": "x"}), ("c", {"app": "y"})):
        manifest = pod(name)
        manifest["metadata"]["labels"] = labels
        api.core.create_namespaced_pod("default", manifest)

    def names(**query: str) -> list[str]:
        return [item.metadata.name for item in api.core.list_namespaced_pod("default", **query).items]

    assert names(label_selector="app=x") == ["a", "b"]
    assert names(label_selector="app=x,n!=1") == ["b"]
    assert names(label_selector="app in (y, z)") == ["c"]
    assert names(label_selector="app notin (y),!n") == ["b"]
    assert names(label_selector="n") == ["a"]
    assert names(field_selector="metadata.name=b") == ["b"]
    assert names(field_selector="status.phase!=Pending") == []
    status = refused(api.core.list_namespaced_pod, "default", field_selector="spec.hostname=a")
    assert status["message"] == "field label not supported: spec.hostname"


def test_lists_in_pages(api: Clients, bed: Bed) -> None:
    for number in range(5):
        api.core.create_namespaced_pod("default", pod(f"p{number}"))
    first = api.core.list_namespaced_pod("default", limit=2)
    assert [item.metadata.name for item in first.items] == ["p0", "p1"]
    assert first.metadata.remaining_item_count == 3
    rest = api.core.list_namespaced_pod("default", limit=9, _continue=first.metadata._continue)
    assert [item.metadata.name for item in rest.items] == ["p2", "p3", "p4"]
    assert rest.metadata._continue is None
    bed.expire("pods")
    status = refused(api.core.list_namespaced_pod, "default", limit=9, _continue=first.metadata._continue)
    assert (status["code"], status["reason"]) == (410, "Expired")


def test_an_update_from_a_stale_copy_is_a_conflict(api: Clients) -> None:
    mine = api.core.create_namespaced_pod("default", pod("p"))
    theirs = copy.deepcopy(mine)
    theirs.metadata.labels = {"by": "them"}
    api.core.replace_namespaced_pod("p", "default", theirs)
    mine.metadata.labels = {"by": "me"}
    status = refused(api.core.replace_namespaced_pod, "p", "default", mine)
    assert (status["code"], status["reason"]) == (409, "Conflict")
    assert "the object has been modified" in status["message"]
    assert api.core.read_namespaced_pod("p", "default").metadata.labels == {"by": "them"}


def patch(api: Clients, body: Any, kind: str) -> Any:
    client = api.core.api_client
    return client.call_api(
        *client.param_serialize(
            "PATCH",
            "/api/v1/namespaces/default/pods/p",
            header_params={"Content-Type": kind},
            body=body,
        )
    )


def test_three_kinds_of_patches(api: Clients) -> None:
    manifest = pod("p")
    manifest["metadata"]["labels"] = {"a": "1", "b": "2"}
    api.core.create_namespaced_pod("default", manifest)
    patch(api, {"metadata": {"labels": {"a": None, "c": "3"}}}, "application/merge-patch+json")
    assert api.core.read_namespaced_pod("p", "default").metadata.labels == {"b": "2", "c": "3"}
    operations = [
        {"op": "test", "path": "/metadata/labels/b", "value": "2"},
        {"op": "replace", "path": "/metadata/labels/b", "value": "4"},
    ]
    patch(api, operations, "application/json-patch+json")
    assert api.core.read_namespaced_pod("p", "default").metadata.labels == {"b": "4", "c": "3"}
    body = {"spec": {"containers": [{"name": "main", "image": "example/image:2"}]}}
    patch(api, body, "application/strategic-merge-patch+json")
    container = api.core.read_namespaced_pod("p", "default").spec.containers[0]
    assert (container.image, container.command) == ("example/image:2", ["true"])


def settled(api: Clients) -> Any:
    """A suspended Job that its controller has seen."""
    api.batch.create_namespaced_job("default", job("one", suspend=True))
    while not (made := api.batch.read_namespaced_job("one", "default")).status.conditions:
        time.sleep(0.01)
    return made


def test_what_may_not_change(api: Clients) -> None:
    made = settled(api)
    made.spec.template.spec.containers[0].image = "another"
    status = refused(api.batch.replace_namespaced_job, "one", "default", made)
    assert "spec.template: Invalid value: field is immutable" in status["message"]


def test_status_is_written_apart(api: Clients) -> None:
    made = settled(api)
    made.status.succeeded = 7
    assert api.batch.replace_namespaced_job("one", "default", made).status.succeeded is None


def test_custom_resources_come_back_as_they_were(api: Clients) -> None:
    place = ("jobset.x-k8s.io", "v1alpha2", "default", "jobsets")
    body = {"metadata": {"name": "set"}, "spec": {"anything": [1, {"goes": True}]}}
    body.update(apiVersion="jobset.x-k8s.io/v1alpha2", kind="JobSet")
    api.custom.create_namespaced_custom_object(*place, body)
    found: Any = api.custom.get_namespaced_custom_object(*place, "set")
    assert found["spec"] == body["spec"]
    api.custom.delete_namespaced_custom_object(*place, "set")
    assert refused(api.custom.get_namespaced_custom_object, *place, "set")["code"] == 404
