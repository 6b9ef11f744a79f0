"""A group as a Kubeflow TrainJob on a training runtime of the platform team (Trainer v2).

The runtime is a JobSet of which a TrainJob may patch only some fields. What it cannot say (Secrets as
variables, priority, time to live, failure rules, unmounted tokens) belongs into the runtime;
`check` refuses shapes that ask for it here. k8s/trainer has a runtime that says it as our Jobs do.
"""

from __future__ import annotations

from typing import Any

from codellm_dag.launch.kubernetes.group import PodGroup
from codellm_dag.launch.kubernetes.job import metadata, queue_labels
from codellm_dag.launch.kubernetes.pod import pod_template

MANAGER = "codellm-dag/launcher"
"""Owner of our patches, as the field ``manager`` wants it: a domain-prefixed path."""

_CONTAINER = "node"
"""Name of the replicated job and of its container in Kubeflow's runtimes for PyTorch."""

_POD_FIELDS = (
    "affinity",
    "imagePullSecrets",
    "nodeSelector",
    "securityContext",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "volumes",
)


def trainjob(group: PodGroup) -> dict[str, Any]:
    """The TrainJob."""
    shape = group.shape
    template = pod_template(group)
    (container,) = template["spec"]["containers"]
    pod = {name: template["spec"][name] for name in _POD_FIELDS if name in template["spec"]}
    pod["containers"] = [
        {
            "name": _CONTAINER,
            "securityContext": container["securityContext"],
            "volumeMounts": container["volumeMounts"],
        }
    ]
    job = {
        "name": _CONTAINER,
        "template": {"spec": {"template": {"metadata": template["metadata"], "spec": pod}}},
    }
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": metadata(group, queue_labels(shape)),
        "spec": {
            **({"suspend": True} if shape.queue else {}),
            "activeDeadlineSeconds": shape.deadlines.backstop + shape.grace_seconds,
            "runtimeRef": {"kind": "ClusterTrainingRuntime", "name": shape.training_runtime},
            "trainer": {
                "image": container["image"],
                "command": container["command"],
                "env": container["env"],
                "numNodes": shape.nodes,
                "numProcPerNode": shape.processes_per_node,
                "resourcesPerNode": container["resources"],
            },
            "runtimePatches": [
                {"manager": MANAGER, "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}}}
            ],
        },
    }
