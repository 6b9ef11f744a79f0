"""What the store knows of an artifact: the reference others pass around, and the manifest beside its files.

A manifest is written last and never changed; it is plain JSON, so it can be read without this package.
Not covered: how it comes to be written (`store.py`) and how two are compared (`codellm_dag/lineage`).
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
"""Version of the manifest's and records' layout; a reader refuses a newer one."""

VOLATILE = "_volatile"
"""Folder of an artifact whose files no digest covers (the stage protocol's ``VOLATILE``)."""

Label = Literal[
    "ok",
    "oom",
    "evicted",
    "diverged",
    "over_budget",
    "gate_missed",
    "infra",
    "invalid_recipe",
    "killed",
    "error",
]
"""How an attempt ended. ``error`` is an exception in the stage's own code. Retried are ``infra`` and, of
remote attempts, ``evicted``."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Artifact(_Record):
    """A reference to a committed artifact: what assets hand each other instead of bytes."""

    kind: str = Field(
        description="corpus, tokenizer, shards, checkpoint, policy, problems, samples or report"
    )
    name: str = Field(description="Asset that first computed it")
    partition: str | None = Field(default=None, description="Partition of that asset")
    stage: str
    fingerprint: str = Field(description="Identity of the computation, 64 hex digits")
    content_digest: str = Field(description="Identity of the result, 64 hex digits; Dagster's data version")

    @property
    def label(self) -> str:
        """``name`` or ``name/partition``."""
        return self.name if self.partition is None else f"{self.name}/{self.partition}"


class Output(_Record):
    """One file of an artifact."""

    path: str = Field(description="Relative to the artifact's folder, '/' between the parts")
    bytes: int
    sha256: str
    volatile: bool = False


class Change(_Record):
    """One difference between two computations: ``recipe.learning_rate: 0.001 → 0.002``."""

    field: str
    before: Any = None
    after: Any = None
    text: str = Field(description="The difference in one line")


class Decision(_Record):
    """Why an artifact was, or would be, computed or reused."""

    action: Literal["computed", "reused"]
    asset: str
    partition: str | None = None
    stage: str
    fingerprint: str = Field(description="Empty while an input still has to be computed")
    previous: str | None = Field(default=None, description="Fingerprint the asset partition had before")
    reasons: list[str] = Field(description="At least one line")
    changes: list[Change] = Field(default_factory=list)
    inputs: dict[str, Artifact] = Field(
        default_factory=dict,
        description="What was given by slot, if the artifact was computed from others with the same contents",
    )
    at: datetime


class AttemptCost(_Record):
    """What one attempt took. ``device_seconds`` = wall seconds times devices held."""

    attempt: str
    label: Label
    start: datetime
    end: datetime
    devices: list[str] = Field(default_factory=list, description="e.g. ['cpu'] or ['NVIDIA H200']")
    device_seconds: float = 0.0
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    tokens: int | None = Field(default=None, description="Tokens that this attempt trained on")
    flops: float | None = Field(default=None, description="Floating-point operations of that, as PaLM counts")


class Environment(_Record):
    """Where the artifact was computed; nothing of it is in the fingerprint but the declared packages."""

    git_commit: str | None = None
    git_dirty: bool | None = Field(
        default=None, description="Uncommitted changes or untracked files in the code"
    )
    git_diff_digest: str | None = Field(default=None, description="SHA-256 of the uncommitted changes")
    image_digest: str | None = None
    python: str = ""
    packages: dict[str, str] = Field(default_factory=dict, description="Every installed distribution")
    platform: str = ""
    cpu_model: str = ""
    cpu_cores: int = 0
    memory_bytes: int = 0
    threads: int = 0
    workers: int = 0
    micro_rows: int = Field(default=0, description="Most rows of a forward pass in training; 0: no bound")
    processes: int = Field(default=1, description="Processes of the group that computed it together")
    devices: list[str] = Field(default_factory=list, description="One for each device of the whole group")


class Manifest(_Record):
    """Everything known of an artifact; `identity` is the exact payload whose hash is the fingerprint."""

    schema_version: int = SCHEMA_VERSION
    stage: str
    kind: str
    name: str
    partition: str | None = None
    fingerprint: str
    content_digest: str
    attempt: str = Field(description="Attempt whose files these are: attempts/<attempt>/ beside the manifest")
    created: datetime
    identity: dict[str, Any]
    code: dict[str, str] = Field(
        default_factory=dict, description="Digest of each module behind identity['code']"
    )
    inputs: dict[str, Artifact] = Field(default_factory=dict)
    outputs: list[Output]
    metrics: dict[str, float | int | str | bool] = Field(default_factory=dict)
    series: dict[str, list[tuple[int, float | None]]] = Field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = Field(default_factory=dict)
    environment: Environment = Field(default_factory=Environment)
    cost: list[AttemptCost] = Field(default_factory=list)
    decision: Decision | None = None

    @property
    def artifact(self) -> Artifact:
        """The reference to this artifact."""
        return Artifact(
            kind=self.kind,
            name=self.name,
            partition=self.partition,
            stage=self.stage,
            fingerprint=self.fingerprint,
            content_digest=self.content_digest,
        )

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(output.bytes for output in self.outputs)


class Attempt(_Record):
    """A row of the ledger: one attempt to compute something, however it ended."""

    schema_version: int = SCHEMA_VERSION
    attempt: str
    stage: str
    asset: str
    partition: str | None = None
    trial: str | None = None
    fingerprint: str
    label: Label
    error: str | None = None
    start: datetime
    end: datetime
    hosts: list[str] = Field(default_factory=list)
    devices: list[str] = Field(default_factory=list)
    device_seconds: float = 0.0
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    tokens: int | None = None
    flops: float | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)

    @property
    def cost(self) -> AttemptCost:
        """The part of the row that a manifest repeats."""
        return AttemptCost(**self.model_dump(include=set(AttemptCost.model_fields)))


class Ref(_Record):
    """A mutable name: what an asset partition is at present."""

    asset: str
    partition: str | None = None
    artifact: Artifact
    updated: datetime


def to_json(record: BaseModel) -> bytes:
    """A record as indented, strict JSON with sorted keys: readable, and always the same bytes."""
    values = record.model_dump(mode="json")
    text = json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8")
