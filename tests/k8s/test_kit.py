"""The kit's manifests are valid, agree with each other, and with what the launcher renders and calls."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from codellm_dag.launch.kubernetes.kinds import EVENT, POD, SERVICE, WORKLOADS
from codellm_dag.launch.kubernetes.quantities import quantity
from codellm_dag.launch.kubernetes.render import render
from codellm_dag.recipes.pod_presets import load_pod_shape, load_pods, pod_preset_names
from codellm_dag.recipes.pods import PodShape
from codellm_dag.stages.registry import STAGES
from tests.k8s.crds import SCHEMAS
from tests.k8s.kustomize import KIT, build, whole_kit
from tests.launch.kubernetes.schemas import validate_strictly
from tests.launch.kubernetes.shapes import group_of

KIT_OBJECTS = whole_kit()
CLUSTER_WIDE = {"Namespace", "ResourceFlavor", "ClusterQueue", "ClusterTrainingRuntime"}
STAGES_NAMESPACE = "codellm-dag"
DAGSTER_NAMESPACE = "dagster"

Object = dict[str, Any]


@pytest.fixture(autouse=True)
def _image(monkeypatch):
    monkeypatch.setenv("CODELLM_IMAGE", "registry.example/codellm-dag/training:1")


def of_kind(*kinds: str) -> list[Object]:
    return [item for item in KIT_OBJECTS if item["kind"] in kinds]


def names_of(kind: str, namespace: str | None = None) -> set[str]:
    """Names of a kind in the kit (in one namespace)."""
    found = of_kind(kind)
    return {o["metadata"]["name"] for o in found if namespace in (None, o["metadata"].get("namespace"))}


def pods_of_kit() -> list[tuple[str, Object, Object]]:
    """(namespace, metadata, pod spec) of everything in the kit that makes pods."""
    found = []
    for item in of_kind("DaemonSet"):
        template = item["spec"]["template"]
        found.append((item["metadata"]["namespace"], template["metadata"], template["spec"]))
    for item in of_kind("RayCluster"):
        for group in (item["spec"]["headGroupSpec"], *item["spec"]["workerGroupSpecs"]):
            found.append((item["metadata"]["namespace"], {}, group["template"]["spec"]))
    for item in of_kind("ClusterTrainingRuntime"):
        for job in item["spec"]["template"]["spec"]["replicatedJobs"]:
            found.append((STAGES_NAMESPACE, {}, job["template"]["spec"]["template"]["spec"]))
    return found


@pytest.mark.parametrize("item", KIT_OBJECTS, ids=lambda o: f"{o['kind']}-{o['metadata']['name']}")
def test_every_object_is_valid(item):
    if item["kind"] in SCHEMAS:
        jsonschema.validate(item, SCHEMAS[item["kind"]])
    else:
        validate_strictly(item)


@pytest.mark.parametrize(("metadata", "spec"), [pod[1:] for pod in pods_of_kit()])
def test_pods_inside_custom_resources_are_valid(metadata, spec):
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", **metadata}, "spec": spec}
    validate_strictly(pod)


def test_the_schemas_of_custom_resources_do_refuse():
    (queue,) = of_kind("ClusterQueue")
    with pytest.raises(jsonschema.ValidationError, match="cohort"):
        jsonschema.validate({**queue, "spec": {**queue["spec"], "cohort": "x"}}, SCHEMAS["ClusterQueue"])


def test_no_object_is_there_twice():
    keys = [(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in KIT_OBJECTS]
    assert len(set(keys)) == len(keys)


def test_namespaces_exist():
    for item in KIT_OBJECTS:
        namespace = item["metadata"].get("namespace")
        assert (namespace is None) == (item["kind"] in CLUSTER_WIDE), item["kind"]
        assert namespace is None or namespace in names_of("Namespace")
    assert PodShape(image="a:1").namespace == STAGES_NAMESPACE
    assert {STAGES_NAMESPACE, DAGSTER_NAMESPACE} <= names_of("Namespace")


def test_the_whole_is_its_parts():
    names = {
        (o["kind"], o["metadata"]["name"])
        for folder in ("base", "queues", "sandbox")
        for o in build(KIT / folder)
    }
    assert {(o["kind"], o["metadata"]["name"]) for o in build(KIT)} == names


def test_bindings_bind_what_is_there():
    (binding,) = of_kind("RoleBinding")
    namespace = binding["metadata"]["namespace"]
    assert binding["roleRef"]["name"] in names_of("Role", namespace)
    for subject in binding["subjects"]:
        assert subject["name"] in names_of("ServiceAccount", subject["namespace"])


def test_service_accounts_of_pods_exist():
    for namespace, _, spec in pods_of_kit():
        account = spec.get("serviceAccountName")
        assert account is None or account in names_of("ServiceAccount", namespace)
    for name in pod_preset_names():
        assert load_pod_shape(name).service_account in names_of("ServiceAccount", STAGES_NAMESPACE)


def test_config_maps_of_pods_exist():
    for namespace, _, spec in pods_of_kit():
        for volume in spec.get("volumes", ()):
            if "configMap" in volume:
                assert volume["configMap"]["name"] in names_of("ConfigMap", namespace)


def test_no_secret_is_in_the_kit_and_the_runbook_makes_those_it_names():
    assert of_kind("Secret") == []
    runbook = (KIT.parent / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    named = {secret for name in pod_preset_names() for secret in load_pod_shape(name).secrets}
    for _, _, spec in pods_of_kit():
        for container in spec["containers"]:
            named |= {source["secretRef"]["name"] for source in container.get("envFrom", ())}
    assert named == {"codellm-dag-s3"}
    for secret, namespace in (
        ("codellm-dag-s3", STAGES_NAMESPACE),
        ("codellm-dag-s3", DAGSTER_NAMESPACE),
        ("dagster-postgresql-secret", DAGSTER_NAMESPACE),
    ):
        assert f"create secret generic {secret} -n {namespace}" in runbook


def test_rights_are_those_the_launcher_uses():
    """The calls are those of api.py on the kinds of kinds.py; follow.py, watch.py and logs.py make them."""
    (role,) = of_kind("Role")
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    used = {("", "pods/log", "get")}  # Api.log
    for kind in WORKLOADS.values():  # Api.create, get, delete; Api.list and watch of Feed
        used |= {
            (_group(kind.api_version), kind.plural, verb)
            for verb in ("create", "get", "delete", "list", "watch")
        }
    used |= {("", kind.plural, verb) for kind in (POD, EVENT) for verb in ("list", "watch")}
    used.add(("", SERVICE.plural, "create"))  # its Job owns it, and takes it along
    assert granted == used


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def test_queues_of_presets_exist_and_cover_what_presets_ask_for():
    (local,) = of_kind("LocalQueue")
    (cluster,) = of_kind("ClusterQueue")
    assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    assert local["metadata"]["namespace"] == STAGES_NAMESPACE
    (resources,) = cluster["spec"]["resourceGroups"]
    (flavor,) = resources["flavors"]
    assert flavor["name"] in names_of("ResourceFlavor")
    quotas = {item["name"]: quantity(item["nominalQuota"]) for item in flavor["resources"]}
    assert list(quotas) == resources["coveredResources"]
    for name in pod_preset_names():
        shape = load_pod_shape(name)
        if shape.queue is None:
            continue
        assert shape.queue == local["metadata"]["name"]
        for manifest in render(group_of(shape))[:1]:
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            for resource, amount in container["resources"]["requests"].items():
                assert quantity(amount) * shape.nodes <= quotas[resource], f"{name} never fits the queue"


def test_the_queue_takes_the_namespace():
    (cluster,) = of_kind("ClusterQueue")
    assert cluster["spec"]["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": STAGES_NAMESPACE
    }


def test_stages_of_the_choice_exist_and_those_with_generated_code_have_the_sandbox():
    path = KIT / "base" / "pods.yaml"
    named = yaml.safe_load(path.read_text(encoding="utf-8")).keys() - {"default"}
    assert named <= STAGES.keys()
    pods = load_pods(str(path))
    sandboxed = {stage for stage in STAGES if pods.of(stage).sandbox}
    assert sandboxed == {"rl_policy", "samples", "sft_data", "rl_problems", "benchmark_problems"}


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
