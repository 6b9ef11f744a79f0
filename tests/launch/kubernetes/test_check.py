"""Bad input gets one clear error that names the field, its value and what is allowed."""

from __future__ import annotations

import copy

import pytest
import yaml

from codellm_dag.launch.kubernetes.check import check_shape
from codellm_dag.launch.kubernetes.check_manifests import check_manifests
from codellm_dag.launch.kubernetes.quantities import quantity
from codellm_dag.launch.kubernetes.render import render
from codellm_dag.recipes import InvalidRecipeError
from tests.launch.kubernetes.shapes import group_of, shape

BROKEN = {
    "image without tag": ({"image": "registry.example/a/b"}, "image = 'registry.example/a/b'"),
    "image that moves": ({"image": "registry:5000/b:latest"}, "allowed: a digest"),
    "port is no tag": ({"image": "registry:5000/b"}, "image = "),
    "no cpu": ({"cpu": "0"}, "cpu = '0'"),
    "memory in bytes": ({"memory": "16"}, "memory = '16': is 16 bytes; must be 64Mi or more"),
    "memory in thousandths": ({"memory": "512m"}, "memory = '512m': is 0.512 bytes"),
    "all memory shared": (
        {"memory": "8Gi", "shared_memory": "8192Mi"},
        "shared_memory = '8192Mi': counts as memory; must be less than memory = '8Gi'",
    ),
    "GPUs of no vendor": ({"gpus": 1, "gpu_resource": "gpu"}, "gpu_resource = 'gpu'"),
    "own field": ({"extra_resources": {"memory": "1Gi"}}, "extra_resources.memory = '1Gi': has a field"),
    "half a device": ({"extra_resources": {"rdma/ib": "500m"}}, "must be a whole number"),
    "no domain": ({"extra_resources": {"rdma": "1"}}, "e.g. rdma/ib"),
    "processes": ({"gpus": 8, "processes": 3}, "processes = 3: must be 8 \\(one for each GPU\\) or 1"),
    "sandbox": ({"sandbox": True}, "seccomp_profile = 'RuntimeDefault': forbids the user namespaces"),
    "sandbox under AppArmor": (
        {"sandbox": True, "seccomp_profile": "Unconfined", "apparmor_profile": "RuntimeDefault"},
        "apparmor_profile = 'RuntimeDefault'",
    ),
    "secret": ({"env": {"AWS_SECRET_ACCESS_KEY": "x"}}, "env.AWS_SECRET_ACCESS_KEY: looks like a secret"),
    "token": ({"env": {"HF_TOKEN": "x"}}, "name a Secret in 'secrets'"),
    "rank": ({"env": {"RANK": "0"}}, "env.RANK: is set by the Job"),
    "our label": ({"labels": {"codellm-dag/group": "x"}}, "labels.codellm-dag/group: is the launcher's"),
    "Kueue's label": ({"labels": {"kueue.x-k8s.io/queue-name": "x"}}, "'queue'"),
    "one node for two": (
        {"nodes": 2, "node_selector": {"kubernetes.io/hostname": "a"}},
        "names one node, but nodes = 2",
    ),
    "grace": ({"grace_seconds": 60, "deadlines": {"run": 60}}, "must be less than deadlines.run = 60"),
    "TrainJob": ({"form": "trainjob", "secrets": ["s3"]}, "secrets = .*: a TrainJob cannot say it"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_named(name):
    fields, message = BROKEN[name]
    with pytest.raises(InvalidRecipeError, match=message) as caught:
        render(group_of(shape(**fields)))
    assert all(line.startswith("PodShape.") for line in str(caught.value).splitlines())


def test_all_broken_rules_are_told_at_once():
    with pytest.raises(InvalidRecipeError) as caught:
        check_shape(shape(cpu="0", memory="1", env={"RANK": "1"}))
    fields = [line.split(" ")[0].rstrip(":") for line in str(caught.value).splitlines()]
    assert fields == ["PodShape.cpu", "PodShape.memory", "PodShape.shared_memory", "PodShape.env.RANK"]


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "NCCL_DEBUG", "HF_HUB_OFFLINE"])
def test_ordinary_variables_are_allowed(name):
    check_shape(shape(env={name: "1"}))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", 0.5),
        ("4", 4),
        ("1.5", 1.5),
        ("1k", 1000),
        ("16Gi", 16 * 2**30),
        ("2M", 2_000_000),
        ("1Ei", 2**60),
    ],
)
def test_quantities(text, number):
    assert quantity(text) == number


@pytest.mark.parametrize("text", ["", "12Qx", "Gi", "-1", "1 Gi", "1e3", "0x1", "1,5", None])
def test_what_is_no_quantity(text):
    with pytest.raises(ValueError, match="is no quantity"):
        quantity(text)


def template(tmp_path, text):
    path = tmp_path / "pod.yaml"
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    return str(path)


BAD_TEMPLATES = {
    "no YAML": ("a: [", "no YAML"),
    "no mapping": ("- a", "must be a mapping with 'spec'"),
    "no spec": ("metadata: {}", "must be a mapping with 'spec'"),
    "a Job": ("{kind: Job, apiVersion: batch/v1, spec: {}}", "kind = 'Job'; allowed: Pod"),
    "unknown key": ("{spec: {}, staus: {}}", "'staus' is unknown"),
    "a name": ("{metadata: {name: x}, spec: {}}", "labels and annotations, and nothing else"),
    "nameless volume": ("{spec: {volumes: [{emptyDir: {}}]}}", "spec.volumes: must be a list"),
    "nameless variable": (
        "{spec: {containers: [{name: stage, env: {A: b}}]}}",
        "env of container stage: must be a list",
    ),
    "second container": (
        "{spec: {containers: [{name: logs, image: x}]}}",
        r"containers\[logs\]: the Job would wait for it for ever; allowed: a sidecar",
    ),
    "privileged": (
        "{spec: {initContainers: [{name: a, image: x, securityContext: {privileged: true}}]}}",
        r"containers\[a\].securityContext.privileged = true",
    ),
    "capability": (
        "{spec: {containers: [{name: stage, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]}}",
        "'SYS_ADMIN'; allowed: IPC_LOCK",
    ),
    "hostPID": ("{spec: {hostPID: true}}", "hostPID = true"),
    "mount of nothing": (
        "{spec: {containers: [{name: stage, volumeMounts: [{name: data, mountPath: /data}]}]}}",
        r"volumeMounts\[/data\].name = 'data': allowed: scratch, shared-memory, tmp",
    ),
    "half a GPU": (
        "{spec: {containers: [{name: stage, resources: {requests: {a.b/gpu: 1}}}]}}",
        "resources.requests.a.b/gpu = 1: must equal limits.a.b/gpu = None",
    ),
    "no quantity": (
        "{spec: {initContainers: [{name: a, resources: {limits: {cpu: 12Qx}}}]}}",
        "resources.limits.cpu: '12Qx' is no quantity",
    ),
    "above its limit": (
        "{spec: {initContainers: [{name: a, resources: {requests: {cpu: 2}, limits: {cpu: 1}}}]}}",
        "resources.requests.cpu = 2: must be at most limits.cpu = 1",
    ),
}


@pytest.mark.parametrize("name", BAD_TEMPLATES)
def test_a_bad_template_is_named(name, tmp_path):
    text, message = BAD_TEMPLATES[name]
    with pytest.raises(InvalidRecipeError, match=message):
        render(group_of(shape(pod_template=template(tmp_path, text))))


def test_a_missing_template_is_named():
    with pytest.raises(InvalidRecipeError, match=r"pod_template = '/nowhere/pod\.yaml': No such file"):
        render(group_of(shape(pod_template="/nowhere/pod.yaml")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{spec: {hostNetwork: true}}", "hostNetwork = true"),
        ("{spec: {volumes: [{name: scratch, hostPath: {path: /mnt}}]}}", r"volumes\[scratch\].hostPath"),
    ],
)
def test_generated_code_runs_beside_nothing_of_the_node(text, message, tmp_path):
    path = template(tmp_path, text)
    render(group_of(shape(pod_template=path)))
    with pytest.raises(InvalidRecipeError, match=message):
        render(group_of(shape(pod_template=path, sandbox=True, seccomp_profile="Unconfined")))


def test_a_selector_that_matches_nothing():
    job, service = render(group_of(shape(nodes=2)))
    other = copy.deepcopy(service)
    other["spec"]["selector"] = {"app": "other"}
    with pytest.raises(InvalidRecipeError, match="matches no pod"):
        check_manifests([job, other])


def test_a_name_that_is_too_long_for_host_names():
    (job,) = render(group_of(shape()))
    job["metadata"]["name"] = "x" * 53
    with pytest.raises(InvalidRecipeError, match="at most 52"):
        check_manifests([job])


def test_a_mounted_token():
    (job,) = render(group_of(shape()))
    job["spec"]["template"]["spec"]["automountServiceAccountToken"] = True
    with pytest.raises(InvalidRecipeError, match="automountServiceAccountToken: must be false"):
        check_manifests([job])
