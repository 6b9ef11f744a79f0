"""Pods as real containers: what a process in a cluster meets, and what the API then says of it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from kubernetes import client, config

from tests.cluster.bed import Bed
from tests.cluster.bed.tests.manifests import job, pod

pytestmark = pytest.mark.cluster


@pytest.fixture
def core(containers: Bed) -> client.CoreV1Api:
    configuration: Any = client.Configuration()
    config.load_kube_config(str(containers.kubeconfig()), client_configuration=configuration)
    return client.CoreV1Api(client.ApiClient(configuration))


def python(code: str) -> tuple[str, ...]:
    return ("python", "-u", "-c", code.strip())


def container(bed: Bed, name: str = "p") -> dict[str, Any]:
    return bed.get("pods", name)["status"]["containerStatuses"][0]


def run(bed: Bed, core: client.CoreV1Api, manifest: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Run a pod to its end: its last state and what it printed."""
    core.create_namespaced_pod("default", manifest)
    name = manifest["metadata"]["name"]
    bed.wait(lambda: bed.get("pods", name)["status"]["phase"] in ("Succeeded", "Failed"), 60)
    return container(bed, name)["state"]["terminated"], core.read_namespaced_pod_log(name, "default")


def test_variables_volumes_and_the_user(containers: Bed, core: client.CoreV1Api) -> None:
    core.create_namespaced_secret("default", {"metadata": {"name": "keys"}, "stringData": {"KEY": "s3"}})
    code = (
        "import os; print(os.environ['KEY'], os.environ['NAME'], os.getuid()); "
        "open('/scratch/x', 'w').write('kept'); print(open('/scratch/x').read()); open('/nowhere', 'w')"
    )
    manifest = pod("p", *python(code))
    manifest["spec"].update(
        volumes=[{"name": "scratch", "emptyDir": {}}],
        securityContext={"runAsUser": 1000, "runAsGroup": 1000},
    )
    manifest["spec"]["containers"][0].update(
        envFrom=[{"secretRef": {"name": "keys"}}],
        env=[{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
        securityContext={"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False},
    )
    ended, printed = run(containers, core, manifest)
    assert printed.splitlines()[:2] == ["s3 p 1000", "kept"]
    assert "OSError" in printed or "PermissionError" in printed
    assert ended["exitCode"] == 1


@pytest.mark.parametrize("code", [0, 3, 70])
def test_exit_codes(containers: Bed, core: client.CoreV1Api, code: int) -> None:
    ended, printed = run(containers, core, pod("p", *python(f"print('ends'); raise SystemExit({code})")))
    assert (ended["exitCode"], ended["reason"]) == (code, "Error" if code else "Completed")
    assert printed == "ends\n"
    phase = containers.get("pods", "p")["status"]["phase"]
    assert phase == ("Failed" if code else "Succeeded")


def test_the_kernel_ends_what_takes_too_much_memory(containers: Bed, core: client.CoreV1Api) -> None:
    manifest = pod("p", *python("print('begins'); x = b'x' * (300 << 20); print('survived')"))
    limits = {"memory": "100Mi", "cpu": "1"}
    manifest["spec"]["containers"][0]["resources"] = {"limits": limits}
    ended, printed = run(containers, core, manifest)
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")
    assert printed == "begins\n"


def printed(bed: Bed, core: client.CoreV1Api, name: str = "p") -> str:
    """What a pod has printed so far; empty before it runs."""
    running = any(
        "running" in entry["state"] for entry in bed.get("pods", name)["status"].get("containerStatuses", ())
    )
    return core.read_namespaced_pod_log(name, "default") if running else ""


SAVES = """
import signal, sys, time
def save(*_):
    open("/work/saved", "w").write("step 7")
    sys.exit(5)
signal.signal(signal.SIGTERM, save)
print("begins")
time.sleep(60)
"""


def test_sigterm_reaches_the_process_and_it_has_time_to_save(
    containers: Bed, core: client.CoreV1Api, tmp_path: Any
) -> None:
    place = tmp_path / "saved"
    core.create_namespaced_pod("default", pod("p", *python(SAVES.replace("/work/saved", str(place)))))
    containers.wait(lambda: printed(containers, core) == "begins\n", 60)
    last = []
    containers.storage.listeners.append(
        lambda entry: last.append(entry) if entry.change == "DELETED" else None
    )
    start = time.monotonic()
    core.delete_namespaced_pod("p", "default")
    containers.wait(lambda: last)
    assert time.monotonic() - start < 15, "it ended long before the 30 seconds of grace"
    assert place.read_text() == "step 7"
    ended = last[0].item["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["exitCode"] == 5


def test_a_failed_container_is_started_again(containers: Bed, core: client.CoreV1Api, tmp_path: Any) -> None:
    mark = str(tmp_path / "mark")
    code = (
        f"import os; again = os.path.exists({mark!r}); open({mark!r}, 'w').close(); "
        "print('again' if again else 'first'); raise SystemExit(0 if again else 9)"
    )
    ended, printed = run(containers, core, pod("p", *python(code), restartPolicy="OnFailure"))
    assert ended["exitCode"] == 0
    assert printed == "again\n"
    assert container(containers)["restartCount"] == 1
    assert core.read_namespaced_pod_log("p", "default", previous=True) == "first\n"


TALK = """
import os, socket, time
index = int(os.environ["JOB_COMPLETION_INDEX"])
print(socket.gethostname())
if index == 0:
    server = socket.create_server(("0.0.0.0", 29400))
    print(server.accept()[0].recv(100).decode())
else:
    for _ in range(100):
        try:
            peer = socket.create_connection(("train-0.train", 29400))
            peer.sendall(b"hello from " + socket.gethostname().encode())
            break
        except OSError:
            time.sleep(0.1)
    else:
        raise SystemExit("train-0.train was not reached")
"""


def test_two_pods_find_each_other_by_name(containers: Bed, core: client.CoreV1Api) -> None:
    service = {"metadata": {"name": "train"}, "spec": {"clusterIP": "None", "publishNotReadyAddresses": True}}
    core.create_namespaced_service("default", service)
    manifest = job("train", *python(TALK), size=2, pods={"subdomain": "train"})
    client.BatchV1Api(core.api_client).create_namespaced_job("default", manifest)
    containers.wait(lambda: containers.get("jobs", "train")["status"].get("succeeded") == 2, 60)
    names = [pod["metadata"]["name"] for pod in containers.pods("train")]
    printed = [core.read_namespaced_pod_log(name, "default") for name in sorted(names)]
    assert printed == ["train-0\nhello from train-1\n", "train-1\n"]
