"""The shape of the pods that run a stage on Kubernetes: what they ask for, and how long they may take.

Nothing here can change a result, so nothing here is part of a fingerprint: the code digest leaves this
module out. Named shapes lie in the folder beside it (`pod_presets.py` reads them); manifests are
rendered by `codellm_dag.launch.kubernetes`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from codellm_dag.recipes.base import InvalidRecipeError, describe_validation_error


def _text(pattern: str, longest: int, allowed: str) -> AfterValidator:
    """A text must match `pattern`; `allowed` says in words what that is."""

    def validate(text: str) -> str:
        if len(text) > longest or not re.fullmatch(pattern, text):
            raise ValueError(f"must be {allowed}")
        return text

    return AfterValidator(validate)


_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_TAIL = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"

Name = Annotated[
    str, _text(_NAME, 63, "a name of at most 63 of a-z, 0-9 and -, with a letter or digit at both ends")
]
Subdomain = Annotated[
    str, _text(rf"{_NAME}(\.{_NAME})*", 253, "an object's name: a-z, 0-9, - and ., at most 253")
]
QualifiedName = Annotated[
    str, _text(rf"({_NAME}(\.{_NAME})*/)?{_TAIL}", 317, "a key such as example.com/name or name")
]
LabelValue = Annotated[
    str, _text(rf"({_TAIL})?", 63, "a label's value: at most 63 of A-Z, a-z, 0-9, -, _ and .")
]
Quantity = Annotated[
    str, _text(r"([0-9]+(\.[0-9]+)?)([KMGTPE]i|[mkMGTPE])?", 32, "a quantity such as 500m, 4, 16Gi or 1000G")
]
Profile = Annotated[
    str,
    _text(
        r"RuntimeDefault|Unconfined|localhost/[A-Za-z0-9][-A-Za-z0-9_./]*",
        253,
        "RuntimeDefault, Unconfined, or localhost/FILE for a profile on the nodes",
    ),
]
Image = Annotated[
    str,
    _text(
        r"[a-z0-9][a-z0-9._:/-]*[a-z0-9](:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?",
        512,
        "an image such as registry/name@sha256:… (64 hex digits) or registry/name:tag",
    ),
]
VariableName = Annotated[
    str, _text(r"[A-Za-z_][A-Za-z0-9_]*", 253, "a variable's name: letters, digits and _")
]

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False, coerce_numbers_to_str=True
    )


class Toleration(_Part):
    """A taint that the pods put up with; the fields are Kubernetes' own."""

    key: QualifiedName | None = Field(
        default=None, description="Key of the taint; none, with operator Exists: every taint."
    )
    operator: Literal["Exists", "Equal"] = Field(
        default="Exists", description="Whether the taint's value must be equal to `value`."
    )
    value: LabelValue | None = Field(default=None, description="Value of the taint, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; none: every effect."
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.operator == "Equal" and (self.key is None or self.value is None):
            raise ValueError("operator Equal needs both key and value")
        if self.operator == "Exists" and self.value is not None:
            raise ValueError(f"operator Exists takes no value, got {self.value!r}")
        return self


class Topology(_Part):
    """How near to each other the pods of one group must be."""

    level: QualifiedName = Field(
        description="Node label whose value all nodes of the group share, e.g. "
        "cloud.google.com/gce-topology-block. With a queue it must be a level of Kueue's Topology."
    )
    required: bool = Field(
        default=False, description="Wait until the whole group fits one value; else only prefer it."
    )


class Deadlines(_Part):
    """Seconds that each part of a pod's life may take; all but admission add up to the cluster's backstop."""

    admission: int = Field(
        default=3 * _DAY, ge=1, le=90 * _DAY, description="From creation until Kueue admits the group."
    )
    scheduling: int = Field(
        default=30 * _MINUTE,
        ge=1,
        le=90 * _DAY,
        description="From admission until every pod has a node; long enough for a node to be provisioned.",
    )
    pull: int = Field(
        default=30 * _MINUTE,
        ge=1,
        le=_DAY,
        description="From a node until the container runs; a training image of 10 GB takes minutes.",
    )
    start: int = Field(
        default=15 * _MINUTE, ge=1, le=_DAY, description="From a running container to the first message."
    )
    silence: int = Field(
        default=20 * _MINUTE,
        ge=1,
        le=7 * _DAY,
        description="Between two signs that the stage goes on: anything it reports. That its process lives "
        "is none, since training that hangs is alive too.",
    )
    run: int = Field(
        default=3 * _DAY, ge=1, le=90 * _DAY, description="From the first message to the end of the stage."
    )

    @property
    def backstop(self) -> int:
        """What the cluster itself allows a group, were every orchestrator gone."""
        return self.scheduling + self.pull + self.start + self.run


class PodShape(_Part):
    """The pods of one stage: `nodes` equal ones, each alone on what it asks for (request = limit)."""

    namespace: Name = Field(default="codellm-dag", description="Namespace of all objects of a group.")
    image: Image = Field(
        description="Image that runs the stage, by digest (name@sha256:…) so that a retry runs the same "
        "bytes, or by tag. A preset without one takes CODELLM_IMAGE.",
    )
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="Always is for tags that move."
    )
    nodes: int = Field(default=1, ge=1, le=1024, description="Pods of the group, one a node.")
    gpus: int = Field(default=0, ge=0, le=64, description="GPUs of each pod.")
    gpu_resource: QualifiedName = Field(
        default="nvidia.com/gpu", description="Name under which the device plugin offers GPUs."
    )
    processes: int | None = Field(
        default=None, ge=1, le=256, description="Processes of each pod; none: one for each GPU, else one."
    )
    cpu: Quantity = Field(
        default="2",
        description="CPUs of each pod; request = limit, so that its quality of service is Guaranteed.",
    )
    memory: Quantity = Field(default="8Gi", description="Memory of each pod, /dev/shm and all processes.")
    shared_memory: Quantity = Field(
        default="1Gi", description="Size of /dev/shm, for data loaders and NCCL; part of `memory`."
    )
    ephemeral_storage: Quantity = Field(
        default="20Gi", description="Local disk of each pod: inputs, outputs before upload, scratch, logs."
    )
    extra_resources: dict[QualifiedName, Quantity] = Field(
        default_factory=dict, description="Further resources, request = limit, e.g. rdma/ib: '8'."
    )
    node_selector: dict[QualifiedName, LabelValue] = Field(
        default_factory=dict, description="Labels of the nodes, e.g. the GPU's type."
    )
    tolerations: tuple[Toleration, ...] = Field(default=(), description="Taints of the nodes to put up with.")
    priority_class: Subdomain | None = Field(default=None, description="PriorityClass of the pods.")
    queue: Subdomain | None = Field(
        default=None, description="Kueue LocalQueue that admits the group as one; none: no queue."
    )
    topology: Topology | None = Field(default=None, description="Nearness of the nodes; none: anywhere.")
    service_account: Subdomain = Field(
        default="codellm-dag-stage",
        description="ServiceAccount of the pods, for image pulls and the cloud's workload identity; its "
        "token is never mounted.",
    )
    run_as_user: int | None = Field(
        default=10_001,
        ge=1,
        le=2**31 - 1,
        description="User and group id of the process, never root; none: the "
        "cluster chooses one (OpenShift).",
    )
    sandbox: bool = Field(
        default=False,
        description="Whether the stage runs generated code in the sandbox. It needs user namespaces, which "
        "the runtime's default profiles forbid: name a profile that allows them.",
    )
    seccomp_profile: Profile = Field(
        default="RuntimeDefault", description="RuntimeDefault, Unconfined, or localhost/FILE on the nodes."
    )
    apparmor_profile: Profile | None = Field(
        default=None, description="As seccomp_profile; none on nodes without AppArmor."
    )
    env: dict[VariableName, str] = Field(default_factory=dict, description="Variables, not secret.")
    secrets: tuple[Subdomain, ...] = Field(
        default=(), description="Secrets whose keys become variables, e.g. the credentials of S3."
    )
    image_pull_secrets: tuple[Subdomain, ...] = Field(default=(), description="Secrets to pull the image.")
    labels: dict[QualifiedName, LabelValue] = Field(default_factory=dict, description="Labels of the pods.")
    annotations: dict[QualifiedName, str] = Field(
        default_factory=dict,
        description="Annotations of the pods, e.g. against being moved by an autoscaler.",
    )
    grace_seconds: int = Field(
        default=120, ge=1, le=_DAY, description="From SIGTERM to SIGKILL: time to write a checkpoint."
    )
    deadlines: Deadlines = Field(default_factory=Deadlines, description="How long each part may take.")
    ttl: int = Field(
        default=_DAY, ge=0, le=90 * _DAY, description="Seconds that a finished Job stays, to be looked at."
    )
    pod_template: str | None = Field(
        default=None, description="YAML file of a pod template that the rendered one is merged into."
    )
    form: Literal["job", "jobset", "trainjob"] = Field(
        default="job", description="Kind of object: a plain Indexed Job, a JobSet, or a Kubeflow TrainJob."
    )
    training_runtime: Subdomain = Field(
        default="torch-distributed",
        description="ClusterTrainingRuntime of a TrainJob; the default is Kubeflow's own.",
    )
    allow_dirty: bool = Field(
        default=False, description="Launch although the code is not what its commit says."
    )
    infra_retries: int = Field(
        default=2, ge=0, le=100, description="New attempts after failures of the cluster."
    )
    preemptions: int = Field(
        default=20, ge=0, le=10_000, description="Pre-emptions and evictions that an attempt may resume from."
    )

    @classmethod
    def parse(cls, values: dict[str, Any], source: str = "PodShape") -> Self:
        """Validate `values` of the file `source`. Raises InvalidRecipeError, one line per bad field."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InvalidRecipeError(describe_validation_error(source, error)) from error

    @property
    def processes_per_node(self) -> int:
        """Processes of each pod."""
        return self.processes or self.gpus or 1

    @property
    def world_size(self) -> int:
        """Processes of the whole group; more than one are started by torchrun."""
        return self.nodes * self.processes_per_node
