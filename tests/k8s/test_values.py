"""The values for Dagster's Helm chart: keys of the chart, names of the kit, settings that Dagster takes.

The keys were checked by hand against the chart's schema (values.schema.json of 1.13), which forbids others in
these places.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from dagster._config import validate_config
from dagster._core.instance.config import dagster_instance_config_schema

from codellm_dag.recipes.pod_presets import IMAGE_VARIABLE, PODS_VARIABLE
from resources.launcher import LAUNCHER_VARIABLE
from resources.store import STORE_VARIABLE, StoreResource
from tests.k8s.kustomize import KIT, build
from tests.launch.kubernetes.schemas import validate_strictly

VALUES = yaml.safe_load((KIT / "dagster-values.yaml").read_text(encoding="utf-8"))

_POD = {
    "podSecurityContext",
    "securityContext",
    "resources",
    "image",
    "env",
    "envSecrets",
    "volumes",
    "volumeMounts",
}
KEYS: dict[str, set[str]] = {
    "": {
        "global", "serviceAccount", "generatePostgresqlPasswordSecret", "dagsterWebserver", "dagsterDaemon",
        "concurrency", "runLauncher", "dagster-user-deployments", "postgresql", "telemetry",
    },
    "global": {"dagsterHome", "postgresqlSecretName", "serviceAccountName", "celeryConfigSecretName"},
    "serviceAccount": {"create", "name", "annotations"},
    "dagsterWebserver": _POD | {"replicaCount"},
    "dagsterDaemon": _POD | {"enabled", "runCoordinator", "runMonitoring", "runRetries"},
    "dagsterDaemon.runCoordinator": {"enabled", "type", "config"},
    "dagsterDaemon.runMonitoring": {
        "enabled", "startTimeoutSeconds", "cancelTimeoutSeconds", "maxResumeRunAttempts",
        "pollIntervalSeconds", "freeSlotsAfterRunEndSeconds",
    },
    "concurrency": {"enabled", "pools", "runs"},
    "concurrency.pools": {"granularity", "defaultLimit", "opGranularityRunBuffer"},
    "concurrency.runs": {"maxConcurrentRuns", "tagConcurrencyLimits"},
    "runLauncher": {"type", "config"},
    "runLauncher.config": {"k8sRunLauncher"},
    "runLauncher.config.k8sRunLauncher": {
        "imagePullPolicy", "loadInclusterConfig", "failPodOnRunFailure", "envSecrets", "resources",
        "securityContext", "runK8sConfig",
    },
    "runLauncher.config.k8sRunLauncher.runK8sConfig": {
        "containerConfig", "podSpecConfig", "podTemplateSpecMetadata", "jobSpecConfig", "jobMetadata",
    },
    "dagster-user-deployments": {"enabled", "enableSubchart", "deployments"},
    "postgresql": {"enabled", "postgresqlUsername", "postgresqlDatabase", "service"},
    "telemetry": {"enabled"},
}  # fmt: skip
DEPLOYMENT_KEYS = _POD | {"name", "dagsterApiGrpcArgs", "port", "includeConfigInLaunchedRuns"}


def at(path: str) -> Any:
    value = VALUES
    for name in filter(None, path.split(".")):
        value = value[name]
    return value


@pytest.mark.parametrize("path", KEYS)
def test_keys_are_the_charts(path):
    assert at(path).keys() <= KEYS[path]


def test_keys_of_the_code_location():
    (location,) = VALUES["dagster-user-deployments"]["deployments"]
    assert location.keys() <= DEPLOYMENT_KEYS
    assert location["dagsterApiGrpcArgs"] == ["-m", "codellm_dag.definitions"]
    assert location["includeConfigInLaunchedRuns"] == {"enabled": True}


def instance() -> dict[str, Any]:
    """dagster.yaml as the chart writes it from these values."""
    monitoring, concurrency = at("dagsterDaemon.runMonitoring"), VALUES["concurrency"]
    return {
        "run_monitoring": {
            "enabled": monitoring["enabled"],
            "start_timeout_seconds": monitoring["startTimeoutSeconds"],
            "cancel_timeout_seconds": monitoring["cancelTimeoutSeconds"],
            "max_resume_run_attempts": monitoring["maxResumeRunAttempts"],
            "poll_interval_seconds": monitoring["pollIntervalSeconds"],
            "free_slots_after_run_end_seconds": monitoring["freeSlotsAfterRunEndSeconds"],
        },
        "concurrency": {
            "pools": {
                "granularity": concurrency["pools"]["granularity"],
                "default_limit": concurrency["pools"]["defaultLimit"],
            },
            "runs": {"max_concurrent_runs": concurrency["runs"]["maxConcurrentRuns"]},
        },
        "telemetry": VALUES["telemetry"],
    }


def test_dagster_takes_the_settings():
    result = validate_config(dict(dagster_instance_config_schema()), instance())
    assert result.success, result.errors


def test_a_run_goes_on_after_its_worker_died():
    assert at("dagsterDaemon.runMonitoring.enabled") is True
    assert at("dagsterDaemon.runMonitoring.maxResumeRunAttempts") > 0
    assert at("runLauncher.type") == "K8sRunLauncher"
    # A run worker that is moved to another node must have time to let go; Kubernetes' own default is 30 s.
    assert (
        at("runLauncher.config.k8sRunLauncher.runK8sConfig.podSpecConfig.terminationGracePeriodSeconds") >= 60
    )


def test_names_are_those_of_the_kit():
    objects = {(o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) for o in build(KIT)}
    account = at("global.serviceAccountName")
    assert account == at("serviceAccount.name")
    assert at("serviceAccount.create") is False
    assert ("ServiceAccount", "dagster", account) in objects
    (location,) = VALUES["dagster-user-deployments"]["deployments"]
    for volume in location["volumes"]:
        assert ("ConfigMap", "dagster", volume["configMap"]["name"]) in objects
    for secrets in (location["envSecrets"], at("runLauncher.config.k8sRunLauncher.envSecrets")):
        assert secrets == [{"name": "codellm-dag-s3"}]


def test_variables_are_those_that_are_read():
    (location,) = VALUES["dagster-user-deployments"]["deployments"]
    env = {item["name"]: item["value"] for item in location["env"]}
    assert env.keys() == {LAUNCHER_VARIABLE, STORE_VARIABLE, PODS_VARIABLE, IMAGE_VARIABLE, "HOME"}
    assert env[LAUNCHER_VARIABLE] == "kubernetes"
    assert StoreResource(url=env[STORE_VARIABLE]).open().url == env[STORE_VARIABLE]
    (mount,) = location["volumeMounts"]
    assert env[PODS_VARIABLE] == f"{mount['mountPath']}/pods.yaml"
    (config,) = [
        o for o in build(KIT) if o["metadata"]["name"] == location["volumes"][0]["configMap"]["name"]
    ]
    assert "pods.yaml" in config["data"]
    assert "@sha256:" in env[IMAGE_VARIABLE]


def test_parts_of_pods_are_valid():
    (location,) = VALUES["dagster-user-deployments"]["deployments"]
    launcher = at("runLauncher.config.k8sRunLauncher")
    pod = launcher["runK8sConfig"]["podSpecConfig"]
    for part in (location, VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], launcher):
        container = {
            "name": "x",
            "image": "x",
            "securityContext": part["securityContext"],
            "resources": part["resources"],
            "volumeMounts": part.get("volumeMounts", []),
            "envFrom": [{"secretRef": secret} for secret in part.get("envSecrets", [])],
        }
        spec = {"containers": [container], "volumes": part.get("volumes", []), **pod}
        spec["securityContext"] = part.get("podSecurityContext", pod["securityContext"])
        validate_strictly({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec})
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_all_parts_run_the_same_image():
    (location,) = VALUES["dagster-user-deployments"]["deployments"]
    images = [part["image"] for part in (location, VALUES["dagsterWebserver"], VALUES["dagsterDaemon"])]
    assert images[0] == images[1] == images[2]
