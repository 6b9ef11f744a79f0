"""The group of pods that runs one attempt: its name, labels and command. `render` makes manifests of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from codellm_dag.launch.kubernetes import names
from codellm_dag.recipes.pods import PodShape

ENTRY = "codellm_dag.stages.entry"
TORCHRUN = "torch.distributed.run"
TORCHRUN_OF_PODS = "codellm_dag.stages.torchrun"
RENDEZVOUS_PORT = 29_400
JOBSET_JOB = "node"
"""Name of the one replicated job of a JobSet; part of its pods' host names."""
_TORCHRUN_MARGIN = 5
"""Seconds between torchrun's own SIGKILL and the kubelet's, to report and to close."""


@dataclass(frozen=True)
class PodGroup:
    """One attempt's pods, in plain values: what is rendered and what is looked for."""

    name: str
    namespace: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    command: tuple[str, ...]
    env: Mapping[str, str]
    shape: PodShape

    @property
    def selector(self) -> str:
        """The label selector that finds the group's objects, and no others."""
        return f"{names.GROUP}={self.name}"


def pod_group(
    *,
    stage: str,
    fingerprint: str,
    attempt: str,
    asset: str,
    partition: str | None,
    run_id: str,
    owner: str,
    store: str,
    record: str,
    env: Mapping[str, str],
    shape: PodShape,
) -> PodGroup:
    """The group of an attempt. `record` is the key of its launch record in the store at `store`.

    `run_id` and `owner` may be empty. `env` goes to the containers and wins over the shape's own.
    """
    name = names.group_name(stage, fingerprint, attempt)
    labels = {
        "app.kubernetes.io/name": "codellm-dag",
        names.MANAGED_BY: names.MANAGER,
        names.GROUP: name,
        names.STAGE: names.label_value(stage),
        names.FINGERPRINT: names.fingerprint_label(fingerprint),
        names.ATTEMPT: attempt,
        names.ASSET: names.label_value(asset),
        names.SANDBOX: "true" if shape.sandbox else "false",
    }
    optional = {names.PARTITION: partition, names.RUN: run_id, names.OWNER: owner}
    labels |= {key: names.label_value(text) for key, text in optional.items() if text}
    annotations = {
        names.FINGERPRINT: fingerprint,
        names.ASSET: asset,
        names.RECORD: record,
        names.STORE: store,
    }
    annotations |= {key: text for key, text in optional.items() if text}
    return PodGroup(
        name=name,
        namespace=shape.namespace,
        labels=labels,
        annotations=annotations,
        command=stage_command(name, record, store, shape),
        env={**shape.env, **env},
        shape=shape,
    )


def stage_command(name: str, record: str, store: str, shape: PodShape) -> tuple[str, ...]:
    """The containers' command: the stage's entry point, under torchrun where there are several processes.

    In a Job the pods of several nodes meet at the first one; a TrainJob's runtime tells torchrun by
    variables (``PET_NNODES``, ``PET_MASTER_ADDR``, …) where.
    """
    entry = ("-m", ENTRY, record, "--store", store)
    if shape.world_size == 1:
        return ("python", *entry)
    shutdown = f"--shutdown-timeout={max(1, shape.grace_seconds - _TORCHRUN_MARGIN)}"
    if shape.form == "trainjob":
        return ("python", "-m", TORCHRUN, shutdown, *entry)
    processes = f"--nproc-per-node={shape.processes_per_node}"
    if shape.nodes == 1:
        return ("python", "-m", TORCHRUN, shutdown, "--standalone", processes, *entry)
    patience = shape.deadlines.pull + shape.deadlines.start  # the image may come much later to one node
    return (
        *("python", "-m", TORCHRUN_OF_PODS, shutdown, f"--nnodes={shape.nodes}", processes),
        *("--node-rank=$(JOB_COMPLETION_INDEX)", "--rdzv-backend=c10d", f"--rdzv-id={name}"),
        f"--rdzv-endpoint={first_pod(name, shape)}:{RENDEZVOUS_PORT}",
        f"--rdzv-conf=join_timeout={patience},read_timeout={patience}",
        *entry,
    )


def first_pod(name: str, shape: PodShape) -> str:
    """Host name of the pod with index 0, within the group's namespace."""
    return f"{name}-{JOBSET_JOB}-0-0.{name}" if shape.form == "jobset" else f"{name}-0.{name}"
