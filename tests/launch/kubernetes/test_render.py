"""Every rendered manifest is what the schemas want, and says what the shape says."""

from __future__ import annotations

import copy
import itertools

import kubernetes_validate
import pytest
import yaml

from codellm_dag.launch.kubernetes.render import owned_by, render
from codellm_dag.recipes.pod_presets import load_pod_shape, pod_preset_names
from tests.launch.kubernetes.schemas import VERSIONS, lost, validate_strictly
from tests.launch.kubernetes.shapes import GOLDEN, IMAGE, SHAPES, golden_text, group_of, shape


def pod_of(**fields):
    """The pod spec of a Job with these fields of its shape."""
    return render(group_of(shape(**fields)))[0]["spec"]["template"]["spec"]


def container_of(**fields):
    return pod_of(**fields)["containers"][0]


@pytest.mark.parametrize("name", SHAPES)
def test_golden_files(name):
    assert golden_text(name) == (GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")


def test_no_golden_file_is_left_over():
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_golden_manifests_are_valid(name):
    for manifest in yaml.safe_load_all((GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")):
        validate_strictly(manifest)


@pytest.mark.parametrize("name", pod_preset_names())
def test_presets_render_and_are_valid(name, monkeypatch):
    monkeypatch.setenv("CODELLM_IMAGE", IMAGE)
    for manifest in render(group_of(load_pod_shape(name))):
        validate_strictly(manifest)


def test_the_validator_knows_the_versions_we_name():
    assert VERSIONS[-1] == ".".join(kubernetes_validate.latest_version().split(".")[:2])


@pytest.mark.parametrize(
    ("form", "nodes", "queue", "sandbox", "topology"),
    [
        *itertools.product(
            ("job", "jobset", "trainjob"),
            (1, 3),
            (None, "gpu"),
            (False, True),
            (None, {"level": "example.com/rack", "required": True}, {"level": "example.com/rack"}),
        )
    ],
)
def test_all_combinations_are_valid(form, nodes, queue, sandbox, topology):
    fields = {"form": form, "nodes": nodes, "queue": queue, "sandbox": sandbox, "topology": topology}
    pods = shape(**fields, seccomp_profile="Unconfined" if sandbox else "RuntimeDefault")
    for manifest in render(group_of(pods)):
        validate_strictly(manifest)


def test_the_schemas_do_refuse():
    (job,) = render(group_of(shape()))
    wrong = copy.deepcopy(job)
    wrong["spec"]["template"]["spec"]["containers"][0]["comand"] = ["python"]
    with pytest.raises(kubernetes_validate.ValidationError):
        validate_strictly(wrong)
    (jobset,) = render(group_of(shape(form="jobset")))
    jobset["spec"]["failurePolicy"]["maxRestart"] = 0
    with pytest.raises(ValueError, match=r"JobSet does not know \['\.spec\.failurePolicy\.maxRestart'\]"):
        validate_strictly(jobset)


def test_lost_finds_what_is_missing_or_different():
    assert lost({"a": [{"b": 1}, 2]}, {"a": [{"b": 1}, 2], "c": 0}) == []
    assert lost({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 3}]}) == [".a[0].b", ".a[0].c"]


def test_one_pod_is_one_job_and_several_nodes_have_a_service_of_their_own():
    assert [manifest["kind"] for manifest in render(group_of(shape()))] == ["Job"]
    job, service = render(group_of(shape(nodes=2)))
    assert (job["kind"], service["kind"]) == ("Job", "Service")
    assert job["spec"]["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_the_workload_owns_the_service():
    job, service = render(group_of(shape(nodes=2)))
    created = {**job, "metadata": {**job["metadata"], "uid": "11-22"}}
    (owner,) = owned_by(service, created)["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Job", job["metadata"]["name"], "11-22")
    assert "ownerReferences" not in service["metadata"]
    validate_strictly(owned_by(service, created))


@pytest.mark.parametrize(("nodes", "action"), [(1, "Ignore"), (2, "FailJob")])
def test_a_disruption_restarts_a_lone_pod_and_fails_several(nodes, action):
    spec = render(group_of(shape(nodes=nodes)))[0]["spec"]
    disruption, other = spec["podFailurePolicy"]["rules"]
    assert disruption == {
        "action": action,
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    assert other == {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}}
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", nodes, nodes)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_a_queue_suspends_and_labels():
    (job,) = render(group_of(shape(queue="gpu")))
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
    assert job["spec"]["suspend"] is True
    (job,) = render(group_of(shape()))
    assert "kueue.x-k8s.io/queue-name" not in job["metadata"]["labels"]
    assert "suspend" not in job["spec"]


def test_times_of_the_cluster_itself():
    deadlines = {"admission": 1, "scheduling": 10, "pull": 20, "start": 30, "silence": 40, "run": 500}
    (job,) = render(group_of(shape(deadlines=deadlines, grace_seconds=7, ttl=99)))
    assert job["spec"]["activeDeadlineSeconds"] == 10 + 20 + 30 + 500 + 7
    assert job["spec"]["ttlSecondsAfterFinished"] == 99
    assert job["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 7


def test_requests_equal_limits():
    resources = container_of(gpus=2, cpu="500m", memory="4Gi", extra_resources={"rdma/ib": "1"})["resources"]
    assert resources["requests"] == resources["limits"]
    assert resources["limits"] == {
        "cpu": "500m",
        "memory": "4Gi",
        "ephemeral-storage": "20Gi",
        "nvidia.com/gpu": "2",
        "rdma/ib": "1",
    }
    assert "nvidia.com/gpu" not in container_of()["resources"]["limits"]


def test_a_pod_is_confined():
    pod = pod_of()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
    }


def test_a_cluster_may_choose_the_user():
    security = pod_of(run_as_user=None)["securityContext"]
    assert security.keys() == {"runAsNonRoot", "seccompProfile"}


def test_profiles_of_the_nodes():
    security = pod_of(
        sandbox=True, seccomp_profile="localhost/profiles/sandbox.json", apparmor_profile="localhost/codellm"
    )["securityContext"]
    assert security["seccompProfile"] == {
        "type": "Localhost",
        "localhostProfile": "profiles/sandbox.json",
    }
    assert security["appArmorProfile"] == {"type": "Localhost", "localhostProfile": "codellm"}


def test_every_writable_place_is_a_mount():
    pod = pod_of(shared_memory="3Gi", ephemeral_storage="9Gi")
    volumes = {volume["name"]: volume["emptyDir"] for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts == {
        "/scratch": {"sizeLimit": "9Gi"},
        "/tmp": {"sizeLimit": "9Gi"},
        "/dev/shm": {"medium": "Memory", "sizeLimit": "3Gi"},
    }
    env = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
    assert (env["HOME"], env["TMPDIR"], env["XDG_CACHE_HOME"]) == ("/scratch", "/scratch", "/scratch/.cache")


def test_secrets_are_named_and_never_quoted():
    container = container_of(secrets=["s3", "hub"])
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}, {"secretRef": {"name": "hub"}}]
    assert "envFrom" not in container_of()


def test_the_launchers_variables_win():
    group = group_of(shape(env={"A": "shape", "B": "shape"}), env={"B": "launcher"})
    (job,) = render(group)
    env = {item["name"]: item["value"] for item in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert (env["A"], env["B"]) == ("shape", "launcher")


def test_the_stage_learns_the_digest_of_its_image():
    env = {item["name"]: item["value"] for item in container_of()["env"]}
    assert env["CODELLM_IMAGE_DIGEST"] == f"sha256:{'ab' * 32}"
    assert "CODELLM_IMAGE_DIGEST" not in {item["name"] for item in container_of(image="a/b:1")["env"]}


def test_the_last_lines_of_a_crash_are_kept():
    assert container_of()["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_nearness_is_kueues_with_a_queue_and_affinity_without():
    rack = {"level": "example.com/rack", "required": True}
    job = render(group_of(shape(nodes=2, topology=rack, queue="gpu")))[0]["spec"]["template"]
    assert job["metadata"]["annotations"]["kueue.x-k8s.io/podset-required-topology"] == "example.com/rack"
    assert "podAffinity" not in job["spec"]["affinity"]
    near = pod_of(nodes=2, topology=rack)["affinity"]["podAffinity"]
    (term,) = near["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "example.com/rack"
    rack["required"] = False
    job = render(group_of(shape(nodes=2, topology=rack, queue="gpu")))[0]["spec"]["template"]
    assert "kueue.x-k8s.io/podset-preferred-topology" in job["metadata"]["annotations"]
    near = pod_of(nodes=2, topology=rack)["affinity"]["podAffinity"]
    assert near.keys() == {"preferredDuringSchedulingIgnoredDuringExecution"}


def test_nodes_of_a_group_are_different_ones():
    (term,) = pod_of(nodes=2)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert "affinity" not in pod_of()


def test_a_jobset_finds_its_first_pod_by_the_jobsets_own_names():
    (jobset,) = render(group_of(shape(form="jobset", nodes=2)))
    name = jobset["metadata"]["name"]
    assert jobset["spec"]["network"]["subdomain"] == name
    spec = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    command = spec["template"]["spec"]["containers"][0]["command"]
    assert f"--rdzv-endpoint={name}-node-0-0.{name}:29400" in command
    assert "subdomain" not in spec["template"]["spec"]
    assert "ttlSecondsAfterFinished" not in spec


def test_a_trainjob_leaves_the_meeting_place_to_its_runtime():
    (trainjob,) = render(group_of(shape(form="trainjob", nodes=2, gpus=4)))
    trainer = trainjob["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (2, 4)
    assert not [word for word in trainer["command"] if word.startswith(("--rdzv", "--nnodes", "--nproc"))]
    assert trainjob["spec"]["runtimeRef"] == {
        "kind": "ClusterTrainingRuntime",
        "name": "torch-distributed",
    }
