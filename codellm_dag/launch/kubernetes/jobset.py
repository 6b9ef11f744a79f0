"""A group as a JobSet, for clusters whose queues, monitors and habits are built on JobSets.

One replicated job ``node`` with one Indexed Job in it; the JobSet's own headless Service names the pods.
"""

from __future__ import annotations

from typing import Any

from codellm_dag.launch.kubernetes.group import JOBSET_JOB, PodGroup
from codellm_dag.launch.kubernetes.job import job_spec, metadata, queue_labels


def jobset(group: PodGroup) -> dict[str, Any]:
    """The JobSet; it is never restarted as a whole, that is the launcher's to decide."""
    shape = group.shape
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata(group, queue_labels(shape)),
        "spec": {
            **({"suspend": True} if shape.queue else {}),
            "network": {
                "enableDNSHostnames": True,
                "publishNotReadyAddresses": True,
                "subdomain": group.name,
            },
            "failurePolicy": {"maxRestarts": 0},
            "ttlSecondsAfterFinished": shape.ttl,
            "replicatedJobs": [{"name": JOBSET_JOB, "replicas": 1, "template": {"spec": job_spec(group)}}],
        },
    }
