"""A stage in pods that share nothing but the store: killed, asked to end, started again; signs of life."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages import entry
from codellm_dag.stages.group import WorkerGroup
from codellm_dag.stages.pod import Pod
from codellm_dag.stages.protocol import Stopped
from codellm_dag.store import Store
from tests.support.pods import events_of, logs, messages_of, outputs_of, pod, pod_request, told, wait_for
from tests.support.stores import own_cache, s3_endpoint, s3_url, store
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import COUNT, WORDS

__all__ = ["own_cache", "s3_endpoint", "s3_url", "store"]

SLOW = TinyRecipe(count=80, seconds=0.1)


def sessions(request) -> list[str]:
    return [m["method"] for m in messages_of(request) if m["method"] in ("opened", "closed")]


def test_a_pod_that_is_gone_is_followed_by_one_that_resumes(store: Store, tmp_path: Path) -> None:
    request = pod_request(store, COUNT, SLOW, {})
    first = pod(request, tmp_path / "first", options=["--heartbeat", "0.5"])
    wait_for(lambda: events_of(request, "saved"))
    first.kill()  # as when a node is lost: no signal, no farewell
    first.wait()
    assert sessions(request) == ["opened"]
    second = pod(request, tmp_path / "second", options=["--heartbeat", "0.5"])
    assert second.wait(60) == 0, told(request, tmp_path / "second")
    assert sessions(request) == ["opened", "opened", "closed"]
    began = int(logs(request)[-1].removeprefix("begins at "))
    assert 0 < began < 80
    assert logs(request)[-2] == "fetched done.txt from the store: 1 files, 0.0 MB"
    assert events_of(request, "metric")[-1]["values"] == {"began_at": began}
    assert list(outputs_of(request)) == ["count.txt"]
    beats = events_of(request, "heartbeat")
    assert len(beats) >= 4
    assert [beat["at"] for beat in beats] == sorted(beat["at"] for beat in beats)
    assert all(beat["advanced"] <= beat["at"] for beat in beats)
    assert beats[-1]["advanced"] > beats[0]["advanced"], "the stage went on"


def test_a_pod_that_was_thought_dead_says_no_more(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    request = pod_request(store, COUNT, SLOW, {})
    first = pod(request, tmp_path / "first")
    wait_for(lambda: events_of(request, "points"))
    first.send_signal(signal.SIGSTOP)  # its node does not answer; the cluster makes another pod
    second = pod(request, tmp_path / "second")
    assert second.wait(60) == 0, told(request, tmp_path / "second")
    said = messages_of(request)
    first.send_signal(signal.SIGCONT)
    assert first.wait(60) == 0
    assert [m["method"] for m in messages_of(request)[len(said) :]].count("closed") == 0
    assert sessions(request) == ["opened", "opened", "closed"]
    assert "a later attempt has taken over" in (tmp_path / "first/log").read_text()


def test_a_stage_that_never_asks_is_ended_by_the_signal_and_its_work_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    request = pod_request(store, COUNT, SLOW, {})
    process = pod(request, tmp_path / "pod")
    wait_for(lambda: events_of(request, "points"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert sessions(request) == ["opened"]
    assert json.loads(store.backend.read(f"{request.messages}.exit.json"))["signal"] == signal.SIGTERM
    assert list(json.loads(store.backend.read(f"{request.resume}/index.json"))["entries"]) == ["done.txt"]
    said = [step for event in events_of(request, "points") for step, _ in event["points"]]
    upload = f"{request.resume}/1-"
    (place,) = [name for name in store.backend.children(request.resume or "") if name != "index.json"]
    assert upload.endswith(place[:2])
    done = int(store.backend.read(f"{request.resume}/{place}/done.txt"))
    assert done >= max(said), "what was saved last is what the stage had done"
    assert list((tmp_path / "pod").glob("codellm-*")) == []


def test_an_index_that_cannot_be_read_fails_the_attempt_before_the_stage_begins(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    request = pod_request(store, COUNT, SLOW, {})
    store.backend.put(f"{request.resume}/index.json", b"{torn")
    assert pod(request, tmp_path / "pod").wait(30) == 1
    (failed,) = events_of(request, "failed")
    assert failed["label"] == "infra"
    assert "what there is to resume from could not be read" in failed["error"]
    assert not any(line.startswith("begins") for line in logs(request))


def test_a_rank_that_comes_too_late_does_not_wait(tmp_path: Path) -> None:
    request = pod_request(Store(tmp_path / "store"), WORDS, TinyRecipe(), {})
    late = Pod(request, WorkerGroup(rank=1, size=2, local_rank=1))
    looks = iter([False, False, True])
    with pytest.raises(Stopped, match="the stage ended before this rank began"):
        late.wait_until_ready(lambda: next(looks))


def test_the_grace_is_the_pods_less_the_time_for_the_upload(tmp_path: Path) -> None:
    request = pod_request(Store(tmp_path / "store"), WORDS, TinyRecipe(), {})
    shape = PodShape(image="codellm-dag:test", grace_seconds=90)
    request = request.model_copy(update={"runtime": Runtime(kubernetes=shape)})
    assert entry.grace_of(request) == pytest.approx(60)
    assert entry.grace_of(request.model_copy(update={"upload": False})) == 10
