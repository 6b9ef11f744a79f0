"""Watches, and the faults that can be had."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import urllib3
from kubernetes import watch
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from tests.cluster.bed import Bed, steps
from tests.cluster.bed.resources import SECRETS
from tests.cluster.bed.tests.conftest import Clients
from tests.cluster.bed.tests.manifests import job, pod


@pytest.fixture(autouse=True)
def nothing_runs(bed: Bed) -> None:
    bed.otherwise(steps.sleep())


def seen(api: Clients, seconds: int = 1, **query: Any) -> list[tuple[str, str]]:
    stream = watch.Watch().stream(api.core.list_namespaced_pod, "default", timeout_seconds=seconds, **query)
    return [
        (event["type"], "" if event["type"] == "BOOKMARK" else event["object"].metadata.name)
        for event in stream
    ]


def later(action: Any) -> None:
    threading.Timer(0.2, action).start()


def labelled(bed: Bed, name: str, **labels: str) -> None:
    bed.edit("pods", name, lambda item: item["metadata"].update(labels=labels))


def test_a_watch_goes_on_where_the_list_ended(api: Clients) -> None:
    api.core.create_namespaced_pod("default", pod("before"))
    version = api.core.list_namespaced_pod("default").metadata.resource_version
    later(lambda: api.core.create_namespaced_pod("default", pod("after")))
    assert seen(api, resource_version=version) == [("ADDED", "after")]
    assert seen(api)[:2] == [("ADDED", "after"), ("ADDED", "before")]


def test_a_selection_is_entered_and_left(api: Clients, bed: Bed) -> None:
    """ADDED when an object begins to match, DELETED when it no longer does."""
    api.core.create_namespaced_pod("default", pod("p"))

    def change() -> None:
        labelled(bed, "p", app="x")
        labelled(bed, "p", app="x", more="y")
        labelled(bed, "p")

    later(change)
    assert seen(api, label_selector="app=x") == [("ADDED", "p"), ("MODIFIED", "p"), ("DELETED", "p")]


def test_bookmarks_move_a_quiet_watch_on() -> None:
    with Bed(bookmark_seconds=0.2) as bed:
        pool = urllib3.PoolManager()
        url = f"{bed.url}/api/v1/pods?watch=true&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion=1"
        lines = pool.request("GET", url).data.decode().splitlines()
        assert len(lines) >= 2
        assert all('"type":"BOOKMARK"' in line for line in lines)
        assert f'"resourceVersion": "{bed.storage.version}"' in lines[-1]


def test_a_forgotten_history_is_410(api: Clients, bed: Bed) -> None:
    api.core.create_namespaced_pod("default", pod("p"))
    version = api.core.list_namespaced_pod("default").metadata.resource_version
    bed.expire("pods")
    with pytest.raises(ApiException) as caught:
        seen(api, resource_version=version)
    assert caught.value.status == 410
    fresh = api.core.list_namespaced_pod("default").metadata.resource_version
    assert seen(api, resource_version=fresh) == []


def test_watches_that_are_closed(api: Clients, bed: Bed) -> None:
    later(lambda: bed.faults.close_watches("pods"))
    start = time.monotonic()
    assert seen(api, seconds=20) == []
    later(lambda: bed.faults.close_watches("pods", cleanly=False))
    with pytest.raises(HTTPError):
        seen(api, seconds=20)
    assert time.monotonic() - start < 5


def test_events_lost_and_repeated(api: Clients, bed: Bed) -> None:
    bed.faults.lose_event("pods")
    bed.faults.repeat_event("pods")

    def change() -> None:
        for name in ("lost", "twice", "once"):
            api.core.create_namespaced_pod("default", pod(name))

    later(change)
    added = [name for change, name in seen(api) if change == "ADDED"]
    assert added == ["twice", "twice", "once"]


def test_requests_fail_as_often_as_asked(api: Clients, bed: Bed) -> None:
    bed.faults.fail("get", "jobs", code=503, times=2)
    bed.faults.fail("list", code=429, retry_after=3)
    for _ in range(2):
        with pytest.raises(ApiException) as caught:
            api.batch.read_namespaced_job("x", "default")
        assert caught.value.status == 503
    with pytest.raises(ApiException) as caught:
        api.batch.read_namespaced_job("x", "default")
    assert caught.value.status == 404
    answer = urllib3.request("GET", f"{bed.url}/api/v1/pods", retries=False)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
    assert answer.json()["details"]["retryAfterSeconds"] == 3
    assert [row.code for row in bed.journal.rows("get", "jobs")] == [503, 503, 404]


def test_an_answer_that_is_lost_after_the_effect(api: Clients, bed: Bed) -> None:
    bed.faults.drop("create", "jobs", applied=True)
    with pytest.raises(HTTPError):
        api.batch.create_namespaced_job("default", job("one", suspend=True))
    assert bed.get("jobs", "one")
    bed.faults.drop("create", "jobs")
    with pytest.raises(HTTPError):
        api.batch.create_namespaced_job("default", job("two", suspend=True))
    assert len(bed.objects("jobs")) == 1


def test_a_stalled_request_meets_the_clients_timeout(api: Clients, bed: Bed) -> None:
    bed.faults.stall(5, "get", "pods")
    start = time.monotonic()
    with pytest.raises(HTTPError):
        api.core.read_namespaced_pod("p", "default", _request_timeout=0.3)
    assert time.monotonic() - start < 3


def test_cost_is_linear_and_small(bed: Bed) -> None:
    """A list of 2,000 costs about 20 times one of 100, not 400 times; a get costs a few milliseconds."""
    pool = urllib3.PoolManager()
    times = {}
    for upto in (100, 2000):
        for number in range(len(bed.objects("secrets")), upto):
            bed.api.create(SECRETS, "default", {"metadata": {"name": f"s{number}"}})
        times[upto] = min(timed(pool, f"{bed.url}/api/v1/secrets?labelSelector=a!=b") for _ in range(5))
    one = min(timed(pool, f"{bed.url}/api/v1/namespaces/default/secrets/s7") for _ in range(20))
    assert one < 0.02
    assert times[2000] < 60 * max(times[100], 0.002)


def timed(pool: urllib3.PoolManager, url: str) -> float:
    start = time.perf_counter()
    assert pool.request("GET", url).status == 200
    return time.perf_counter() - start
