"""What is seen of pods: scripts, and containers that run as processes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import ApiException

from tests.cluster.bed import Bed, steps
from tests.cluster.bed.resources import PODS
from tests.cluster.bed.storage import Entry
from tests.cluster.bed.tests.conftest import Clients
from tests.cluster.bed.tests.manifests import job, pod


def status(bed: Bed, name: str = "p") -> dict[str, Any]:
    return bed.get("pods", name)["status"]


def state(bed: Bed, name: str = "p") -> dict[str, Any]:
    return status(bed, name)["containerStatuses"][0]["state"]


def conditions(bed: Bed, name: str = "p") -> dict[str, tuple[str, str]]:
    found = status(bed, name).get("conditions", ())
    return {entry["type"]: (entry["status"], entry.get("reason", "")) for entry in found}


def events(bed: Bed) -> list[tuple[str, str]]:
    return [(event["type"], event["reason"]) for event in bed.objects("events")]


def play(bed: Bed, api: Clients, *script: steps.Step) -> None:
    bed.script("p", *script)
    api.core.create_namespaced_pod("default", pod("p"))


def test_no_place_for_a_pod(bed: Bed, api: Clients) -> None:
    play(bed, api, steps.unschedulable("0/3 nodes are available: 3 Insufficient cpu."))
    bed.wait(lambda: ("Warning", "FailedScheduling") in events(bed))
    assert status(bed)["phase"] == "Pending"
    assert conditions(bed)["PodScheduled"] == ("False", "Unschedulable")
    found = api.core.list_namespaced_event("default", field_selector="involvedObject.name=p").items
    assert [event.message for event in found] == ["0/3 nodes are available: 3 Insufficient cpu."]


def test_an_image_that_cannot_be_pulled(bed: Bed, api: Clients) -> None:
    play(bed, api, steps.schedule(), steps.pull_fails())
    bed.wait(lambda: state(bed).get("waiting", {}).get("reason") == "ImagePullBackOff")
    assert status(bed)["phase"] == "Pending"
    bed.wait(lambda: ("Normal", "BackOff") in events(bed))
    with pytest.raises(ApiException) as caught:
        api.core.read_namespaced_pod_log("p", "default")
    assert caught.value.status == 400
    assert "is waiting to start: ImagePullBackOff" in caught.value.body


def test_memory_runs_out(bed: Bed, api: Clients) -> None:
    play(bed, api, *steps.BEGIN, steps.log("step 1\nstep 2"), steps.out_of_memory())
    bed.wait(lambda: status(bed)["phase"] == "Failed")
    assert (state(bed)["terminated"]["exitCode"], state(bed)["terminated"]["reason"]) == (137, "OOMKilled")
    assert api.core.read_namespaced_pod_log("p", "default") == "step 1\nstep 2\n"
    assert api.core.read_namespaced_pod_log("p", "default", tail_lines=1) == "step 2\n"
    stamped = api.core.read_namespaced_pod_log("p", "default", timestamps=True)
    assert stamped.splitlines()[0].endswith("Z step 1")


def test_eviction_leaves_the_pod_and_preemption_takes_it_away(bed: Bed, api: Clients) -> None:
    play(bed, api, *steps.BEGIN, steps.evict())
    bed.wait(lambda: status(bed)["phase"] == "Failed")
    assert status(bed)["reason"] == "Evicted"
    assert conditions(bed)["DisruptionTarget"] == ("True", "TerminationByKubelet")
    bed.script("q", *steps.BEGIN, steps.sleep())
    api.core.create_namespaced_pod("default", pod("q"))
    bed.wait(lambda: status(bed, "q")["phase"] == "Running")
    last = []
    bed.storage.listeners.append(lambda entry: last.append(entry) if entry.change == "DELETED" else None)
    bed.kubelet.preempt(("default", "q"))
    bed.wait(lambda: last)
    found = {entry["type"]: entry.get("reason") for entry in last[0].item["status"]["conditions"]}
    assert found["DisruptionTarget"] == "PreemptionByScheduler"
    assert last[0].item["status"]["phase"] == "Failed"


def test_a_lost_node_answers_nothing(bed: Bed, api: Clients) -> None:
    play(bed, api, *steps.BEGIN, steps.lose_node())
    bed.wait(lambda: bed.get("pods", "p")["metadata"].get("deletionTimestamp"))
    assert status(bed)["phase"] == "Running"
    assert conditions(bed)["Ready"] == ("False", "NodeNotReady")
    assert conditions(bed)["DisruptionTarget"] == ("True", "DeletionByTaintManager")
    time.sleep(0.1)
    api.core.delete_namespaced_pod("p", "default", grace_period_seconds=0)
    assert bed.objects("pods") == []


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_pod_that_is_taken_away_while_its_lost_node_gives_it_up(bed: Bed, api: Clients) -> None:
    def take_away(entry: Entry) -> None:
        marks = {mark.get("reason") for mark in entry.item.get("status", {}).get("conditions", ())}
        if (entry.resource, entry.change) == (PODS, "MODIFIED") and "DeletionByTaintManager" in marks:
            bed.storage.remove(PODS, ("default", "p"))

    bed.storage.listeners.append(take_away)
    play(bed, api, *steps.BEGIN, steps.lose_node())
    bed.wait(lambda: ("Warning", "NodeNotReady") in events(bed) and not bed.objects("pods"))
    time.sleep(0.1)
    assert bed.problems == []


def test_a_node_that_is_only_cut_off_goes_on_unseen(bed: Bed, api: Clients, tmp_path: Path) -> None:
    place = tmp_path / "ticks"
    code = f"import time\nwhile True: open({str(place)!r}, 'a').write('x'); time.sleep(0.02)"
    api.core.create_namespaced_pod("default", pod("p", *python(code)))
    bed.wait(place.exists)
    bed.kubelet.lose_node(("default", "p"), running=True)
    bed.kubelet.collect(("default", "p"))
    bed.wait(lambda: not bed.objects("pods"))
    seen = place.stat().st_size
    bed.wait(lambda: place.stat().st_size > seen)
    bed.kubelet.stop()
    seen = place.stat().st_size
    time.sleep(0.2)
    assert place.stat().st_size == seen


def test_scripts_by_index_and_attempt(bed: Bed, api: Clients) -> None:
    codes = []
    bed.script("train-*", *steps.BEGIN, steps.call(lambda worker: codes.append(worker.attempt) or 0))
    bed.script("train-*", *steps.BEGIN, steps.exit(9), index=1, attempt=1)
    api.batch.create_namespaced_job("default", job("train-a1", size=2, backoffLimit=3))
    bed.wait(lambda: bed.get("jobs", "train-a1")["status"].get("succeeded") == 2)
    assert sorted(codes) == [1, 2]


def python(code: str) -> tuple[str, ...]:
    return ("python", "-c", code)


def test_a_process_sees_what_a_container_would(bed: Bed, api: Clients) -> None:
    api.core.create_namespaced_secret("default", {"metadata": {"name": "keys"}, "stringData": {"KEY": "s3"}})
    meta = {"name": "train", "labels": {"a": "b"}}
    api.core.create_namespaced_service("default", {"metadata": meta, "spec": {"clusterIP": "None"}})
    code = (
        "import os, sys; print(os.environ['KEY'], os.environ['BOTH'], os.environ['NAME'], sys.argv[1:]); "
        "open(os.environ['PLACE'] + '/x', 'w').write('y'); print(os.path.exists('/scratch'))"
    )
    manifest = job("train", pods={"subdomain": "train"})
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    manifest["spec"]["template"]["spec"]["volumes"] = [{"name": "scratch", "emptyDir": {}}]
    container.update(
        command=["python", "-c", code, "train-0.train:29400", "$(ONE)", "$(NO)", "$$(ONE)"],
        envFrom=[{"secretRef": {"name": "keys"}}],
        env=[
            {"name": "ONE", "value": "1"},
            {"name": "BOTH", "value": "$(ONE)-$(KEY)"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['job-name']"}}},
            {"name": "PLACE", "value": "/scratch"},
        ],
        volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
    )
    api.batch.create_namespaced_job("default", manifest)
    bed.wait(lambda: bed.get("jobs", "train")["status"].get("succeeded") == 1)
    (ran,) = bed.pods("train")
    printed = api.core.read_namespaced_pod_log(ran["metadata"]["name"], "default")
    assert printed == "s3 1-s3 train ['127.0.0.1:29400', '1', '$(NO)', '$(ONE)']\nFalse\n"


def test_names_of_a_service_that_comes_after_its_pods(bed: Bed, api: Clients) -> None:
    """As a launcher creates it that makes the Job its owner."""
    command = python("import sys; print(sys.argv[1])")
    api.batch.create_namespaced_job(
        "default", job("train", *command, "train-0.train:1", pods={"subdomain": "train"})
    )
    bed.wait(lambda: bed.pods("train"))
    api.core.create_namespaced_service(
        "default", {"metadata": {"name": "train"}, "spec": {"clusterIP": "None"}}
    )
    bed.wait(lambda: bed.get("jobs", "train")["status"].get("succeeded") == 1)
    name = bed.pods("train")[0]["metadata"]["name"]
    assert api.core.read_namespaced_pod_log(name, "default") == "127.0.0.1:1\n"


SAVES = """
import os, signal, sys, time
def save(*_):
    os.write(1, b"saved")  # print may be in the middle of something
    sys.exit(5)
signal.signal(signal.SIGTERM, save)
print("begins", flush=True)
time.sleep(60)
"""


def test_sigterm_and_grace(bed: Bed, api: Clients) -> None:
    api.core.create_namespaced_pod("default", pod("p", *python(SAVES)))
    bed.wait(lambda: status(bed)["phase"] == "Running" and api.core.read_namespaced_pod_log("p", "default"))
    last = []
    bed.storage.listeners.append(lambda entry: last.append(entry) if entry.change == "DELETED" else None)
    api.core.delete_namespaced_pod("p", "default")
    bed.wait(lambda: last)
    ended = last[0].item["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], last[0].item["status"]["phase"]) == (5, "Failed")


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(bed: Bed, api: Clients) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    api.core.create_namespaced_pod("default", pod("p", *python(code)))
    bed.wait(lambda: status(bed)["phase"] == "Running" and api.core.read_namespaced_pod_log("p", "default"))
    last = []
    bed.storage.listeners.append(lambda entry: last.append(entry) if entry.change == "DELETED" else None)
    start = time.monotonic()
    api.core.delete_namespaced_pod("p", "default", grace_period_seconds=1)
    bed.wait(lambda: last)
    assert 0.9 < time.monotonic() - start < 5
    assert last[0].item["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137


def test_restarts_keep_the_log_of_the_run_before(bed: Bed, api: Clients) -> None:
    code = "import os, sys, pathlib; p = pathlib.Path('mark'); print('again' if p.exists() else 'first'); "
    code += "sys.exit(0 if p.exists() else p.touch() or 3)"
    manifest = pod("p", *python(code), restartPolicy="OnFailure")
    api.core.create_namespaced_pod("default", manifest)
    bed.wait(lambda: status(bed)["phase"] == "Succeeded")
    container = status(bed)["containerStatuses"][0]
    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["exitCode"] == 3
    assert api.core.read_namespaced_pod_log("p", "default") == "again\n"
    assert api.core.read_namespaced_pod_log("p", "default", previous=True) == "first\n"


def test_init_containers_come_first_and_can_fail(bed: Bed, api: Clients) -> None:
    init = {"name": "prepare", "image": "x", "command": list(python("open('made', 'w'); print('made')"))}
    code = "import os; print(os.path.exists('made'))"
    api.core.create_namespaced_pod("default", pod("p", *python(code), initContainers=[init]))
    bed.wait(lambda: status(bed)["phase"] == "Succeeded")
    assert api.core.read_namespaced_pod_log("p", "default") == "True\n"
    assert api.core.read_namespaced_pod_log("p", "default", container="prepare") == "made\n"
    bad = {**init, "command": list(python("raise SystemExit(4)"))}
    api.core.create_namespaced_pod("default", pod("q", *python(code), initContainers=[bad]))
    bed.wait(lambda: status(bed, "q")["phase"] == "Failed")


def test_a_missing_secret_or_program(bed: Bed, api: Clients) -> None:
    manifest = pod("p")
    manifest["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": "no"}}]
    api.core.create_namespaced_pod("default", manifest)
    bed.wait(lambda: state(bed).get("waiting", {}).get("reason") == "CreateContainerConfigError")
    assert state(bed)["waiting"]["message"] == 'secret "no" not found'
    api.core.create_namespaced_pod("default", pod("q", "no-such-program"))
    bed.wait(lambda: status(bed, "q")["phase"] == "Failed")
    assert state(bed, "q")["terminated"]["reason"] == "StartError"


def test_the_python_of_the_tests_stands_for_the_image(bed: Bed, api: Clients) -> None:
    api.core.create_namespaced_pod("default", pod("p", *python("import sys; print(sys.executable)")))
    bed.wait(lambda: status(bed)["phase"] == "Succeeded")
    assert api.core.read_namespaced_pod_log("p", "default").strip() == str(
        Path(sys.executable).with_name("python")
    )
