"""The kit's manifests are valid, agree with each other, and with what the launcher renders and calls."""

from __future__ import annotations

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
from tests.k8s.kit_objects import (
    CLUSTER_WIDE,
    DAGSTER_NAMESPACE,
    KIT_OBJECTS,
    STAGES_NAMESPACE,
    names_of,
    of_kind,
    pods_of_kit,
)
from tests.k8s.kustomize import KIT, build
from tests.launch.kubernetes.schemas import validate_strictly
from tests.launch.kubernetes.shapes import group_of


@pytest.fixture(autouse=True)
def _image(monkeypatch):
    monkeypatch.setenv("CODELLM_IMAGE", "registry.example/codellm-dag/training:1")


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
    examples = {"executed_examples", "doctest_functions", "sft_data", "rl_problems"}
    assert sandboxed == {"rl_policy", "samples", "benchmark_problems", *examples}
