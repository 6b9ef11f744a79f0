"""Strict schemas for the tests: of Kubernetes' own kinds, and of those whose models a package publishes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kubernetes_validate
from kubeflow_trainer_api import models

VERSIONS = ("1.30", "1.37")
"""Oldest and newest Kubernetes that is supported; in between, nothing that we use changed."""

_MODELS = {
    "JobSet": models.JobsetV1alpha2JobSet,
    "TrainJob": models.TrainerV1alpha1TrainJob,
    "TrainingRuntime": models.TrainerV1alpha1TrainingRuntime,
    "ClusterTrainingRuntime": models.TrainerV1alpha1ClusterTrainingRuntime,
}


def validate_strictly(manifest: Mapping[str, Any]) -> None:
    """Raises if a field is unknown, missing or of the wrong type, in the oldest or the newest version."""
    model = _MODELS.get(manifest["kind"])
    if model is None:
        for version in VERSIONS:
            kubernetes_validate.validate(dict(manifest), version, strict=True)
        return
    # These models drop what they do not know, so what comes out must be what went in.
    read = model.from_dict(dict(manifest))
    missing = lost(manifest, read.to_dict() if read else {})
    if missing:
        raise ValueError(f"{manifest['kind']} does not know {missing}")
    for job in manifest["spec"].get("replicatedJobs", ()):
        batch = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job["name"]}}
        validate_strictly({**batch, "spec": job["template"]["spec"]})


def lost(given: Any, kept: Any, where: str = "") -> list[str]:
    """Paths in `given` that are missing or different in `kept`."""
    if isinstance(given, Mapping):
        found = []
        for key, value in given.items():
            place = f"{where}.{key}"
            if not isinstance(kept, Mapping) or key not in kept:
                found.append(place)
            else:
                found += lost(value, kept[key], place)
        return found
    if isinstance(given, list | tuple):
        if not isinstance(kept, list) or len(kept) != len(given):
            return [where]
        return [
            path
            for index, (one, other) in enumerate(zip(given, kept, strict=True))
            for path in lost(one, other, f"{where}[{index}]")
        ]
    return [] if given == kept else [where]
