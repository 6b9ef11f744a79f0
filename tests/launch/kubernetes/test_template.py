"""A team's pod template under ours: what we say stands, what we do not say is added."""

from __future__ import annotations

import copy

import pytest
import yaml

from codellm_dag.launch.kubernetes.render import render
from codellm_dag.launch.kubernetes.template import merge
from tests.launch.kubernetes.schemas import validate_strictly
from tests.launch.kubernetes.shapes import group_of, shape

TEMPLATE = """
apiVersion: v1
kind: Pod
metadata:
  labels: {team: a, codellm-dag/group: stolen}
  annotations: {example.com/note: hello}
spec:
  runtimeClassName: nvidia
  restartPolicy: Always
  serviceAccountName: other
  tolerations:
    - {key: example.com/spot, operator: Exists}
  volumes:
    - name: scratch
      ephemeral:
        volumeClaimTemplate:
          spec:
            accessModes: [ReadWriteOnce]
            storageClassName: nvme
            resources: {requests: {storage: 2Ti}}
    - {name: certificates, configMap: {name: ca}}
  containers:
    - name: stage
      image: other:1
      securityContext:
        capabilities: {add: [IPC_LOCK]}
        privileged: true
      env:
        - {name: NCCL_IB_HCA, value: mlx5}
        - {name: HOME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
      volumeMounts:
        - {name: certificates, mountPath: /etc/ssl/team}
  initContainers:
    - {name: metrics, image: "exporter:1", restartPolicy: Always}
"""


@pytest.fixture
def job(tmp_path):
    path = tmp_path / "pod.yaml"
    path.write_text(TEMPLATE)
    fields = {"tolerations": [{"key": "nvidia.com/gpu"}], "secrets": ["s3"]}
    (rendered,) = render(group_of(shape(pod_template=str(path), **fields)))
    return rendered


def test_it_is_still_valid(job):
    validate_strictly(job)


def test_what_we_say_stands(job):
    template = job["spec"]["template"]
    spec = template["spec"]
    (container,) = spec["containers"]
    assert template["metadata"]["labels"]["codellm-dag/group"] == job["metadata"]["name"]
    assert (spec["restartPolicy"], spec["serviceAccountName"]) == ("Never", "codellm-dag-stage")
    assert container["image"].startswith("registry.example/")
    assert container["securityContext"]["privileged"] is False
    assert container["securityContext"]["capabilities"] == {"add": ["IPC_LOCK"], "drop": ["ALL"]}
    assert [item for item in container["env"] if item["name"] == "HOME"] == [
        {"name": "HOME", "value": "/scratch"}
    ]


def test_what_we_do_not_say_is_added(job):
    template = job["spec"]["template"]
    spec = template["spec"]
    (container,) = spec["containers"]
    assert template["metadata"]["labels"]["team"] == "a"
    assert template["metadata"]["annotations"]["example.com/note"] == "hello"
    assert spec["runtimeClassName"] == "nvidia"
    assert [taint["key"] for taint in spec["tolerations"]] == ["nvidia.com/gpu", "example.com/spot"]
    assert [one["name"] for one in spec["initContainers"]] == ["metrics"]
    assert {"name": "NCCL_IB_HCA", "value": "mlx5"} in container["env"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {
        "/scratch",
        "/tmp",
        "/dev/shm",
        "/etc/ssl/team",
    }


def test_a_volume_of_the_template_takes_the_place_of_ours(job):
    volumes = {volume["name"]: volume for volume in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes.keys() == {"scratch", "tmp", "shared-memory", "certificates"}
    assert volumes["scratch"].keys() == {"name", "ephemeral"}


def test_merging_changes_neither_side():
    under, over = (
        yaml.safe_load(TEMPLATE)["spec"],
        {"volumes": [{"name": "tmp", "emptyDir": {}}], "tolerations": []},
    )
    before = copy.deepcopy((under, over))
    merge(under, over)
    assert (under, over) == before


@pytest.mark.parametrize(
    ("name", "under", "over", "merged"),
    [
        ("", {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ("args", ["a"], ["b"], ["b"]),
        ("volumeMounts", [{"mountPath": "/a", "name": "x"}], [{"mountPath": "/b", "name": "y"}],
         [{"mountPath": "/b", "name": "y"}, {"mountPath": "/a", "name": "x"}]),
        ("volumeMounts", [{"mountPath": "/a", "name": "x", "readOnly": True}],
         [{"mountPath": "/a", "name": "y"}], [{"mountPath": "/a", "name": "y", "readOnly": True}]),
        ("env", [{"name": "A", "value": "1"}], [{"name": "A", "value": "2"}], [{"name": "A", "value": "2"}]),
        ("tolerations", [{"key": "a"}], [{"key": "a"}, {"key": "b"}], [{"key": "a"}, {"key": "b"}]),
        ("image", "a", "b", "b"),
        ("nodeSelector", {"a": "1"}, {"b": "2"}, {"a": "1", "b": "2"}),
    ],
)  # fmt: skip
def test_merge(name, under, over, merged):
    assert merge(under, over, name) == merged
