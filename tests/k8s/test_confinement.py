"""Pods of stages keep to their namespace's standard, its network policies, and the sandbox' profile."""

from __future__ import annotations

import json

import pytest

from codellm_dag.launch.kubernetes.render import render
from codellm_dag.recipes.pod_presets import load_pod_shape, pod_preset_names
from tests.k8s.kit_objects import STAGES_NAMESPACE, Object, of_kind
from tests.k8s.kustomize import KIT
from tests.launch.kubernetes.shapes import group_of


@pytest.fixture(autouse=True)
def _image(monkeypatch):
    monkeypatch.setenv("CODELLM_IMAGE", "registry.example/codellm-dag/training:1")


def restricted(spec: Object) -> list[str]:
    """What of a pod breaks the Pod Security Standard *restricted*."""
    pod = spec.get("securityContext", {})
    broken = [field for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    if pod.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        broken.append("seccompProfile")
    if pod.get("appArmorProfile", {}).get("type") == "Unconfined":
        broken.append("appArmorProfile")
    if not pod.get("runAsNonRoot"):
        broken.append("runAsNonRoot")
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    broken += [volume["name"] for volume in spec.get("volumes", ()) if volume.keys() - {"name"} - allowed]
    for container in spec["containers"]:
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False:
            broken.append("allowPrivilegeEscalation")
        if security.get("capabilities", {}).get("drop") != ["ALL"] or security["capabilities"].get("add"):
            broken.append("capabilities")
    return broken


def test_presets_and_ray_keep_to_the_namespaces_standard():
    (namespace,) = [o for o in of_kind("Namespace") if o["metadata"]["name"] == STAGES_NAMESPACE]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name in pod_preset_names():
        (job, *_) = render(group_of(load_pod_shape(name)))
        assert restricted(job["spec"]["template"]["spec"]) == [], name
    for item in of_kind("RayCluster"):
        for group in (item["spec"]["headGroupSpec"], *item["spec"]["workerGroupSpecs"]):
            assert restricted(group["template"]["spec"]) == []


def test_policies_select_the_pods_that_are_rendered():
    policies = {o["metadata"]["name"]: o["spec"] for o in of_kind("NetworkPolicy")}
    assert policies["nothing-but-what-follows"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, policy in (
        ("gpu-8x8", "trainings-among-themselves"),
        ("gpu-1-sandbox", "sandboxes-among-themselves"),
    ):
        labels = render(group_of(load_pod_shape(name)))[0]["spec"]["template"]["metadata"]["labels"]
        matching = {
            other
            for other in ("trainings-among-themselves", "sandboxes-among-themselves")
            if policies[other]["podSelector"]["matchLabels"].items() <= labels.items()
        }
        assert matching == {policy}
        (rule,) = policies[policy]["ingress"]
        assert rule["from"] == [{"podSelector": policies[policy]["podSelector"]}]


def test_the_sandbox_profile_is_the_one_that_presets_name():
    (config,) = [o for o in of_kind("ConfigMap") if o["metadata"]["name"] == "codellm-dag-seccomp"]
    (file,) = config["data"]
    profiles = {load_pod_shape(name).seccomp_profile for name in pod_preset_names()}
    assert profiles == {"RuntimeDefault", f"localhost/{file}"}
    (daemon,) = of_kind("DaemonSet")
    (copy,) = daemon["spec"]["template"]["spec"]["initContainers"]
    assert copy["command"] == ["cp", f"/profile/{file}", f"/seccomp/{file}"]


def test_the_sandbox_profile_allows_what_the_sandbox_needs_and_denies_the_rest_of_the_dangerous():
    profile = json.loads((KIT / "sandbox" / "codellm-dag-sandbox.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
    (rule,) = profile["syscalls"]
    assert rule["action"] == "SCMP_ACT_ERRNO"
    denied = set(rule["names"])
    needed = {
        "unshare",
        "clone",
        "clone3",
        "mount",
        "umount2",
        "pivot_root",
        "sethostname",
        "prctl",
        "seccomp",
    }
    assert not denied & needed
    assert {
        "bpf",
        "ptrace",
        "kexec_load",
        "init_module",
        "keyctl",
        "perf_event_open",
        "io_uring_setup",
        "userfaultfd",
    } <= denied
