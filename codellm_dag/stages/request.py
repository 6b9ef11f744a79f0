"""A stage request: all that a process, here or in a pod, needs to run one stage; plain JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from codellm_dag.recipes.runtime import Runtime
from codellm_dag.store.manifest import Artifact

SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RequestInput(_Part):
    """One input: the artifact, and its local folder if the process can see one."""

    artifact: Artifact
    path: str | None = Field(default=None, description="None: fetch it from the request's store")


class StageRequest(_Part):
    """What to run, on what, and where the results and messages go."""

    schema_version: int = SCHEMA_VERSION
    stage: str
    module: str = Field(description="Module whose function run(recipe, inputs, out, report) is the stage")
    recipe_class: str = Field(description="module:Class")
    recipe: dict[str, Any]
    chosen: tuple[str, ...] = Field(default=(), description="Modules whose code counts through the recipe")
    code: dict[str, str] = Field(
        description="Digest of each module, as fingerprinted; checked before running"
    )
    packages: dict[str, str] = Field(description="Versions of the declared packages, as fingerprinted")
    asset: str
    partition: str | None = None
    trial: str | None = None
    fingerprint: str
    attempt: str
    inputs: dict[str, RequestInput]
    store: str | None = Field(default=None, description="Store of inputs without a path, and of an upload")
    out: str | None = Field(
        default=None, description="Folder to write to; None: a temporary one, then upload"
    )
    resume_dir: str | None = Field(default=None, description="Folder that survives attempts; None: temporary")
    resume: str | None = Field(
        default=None, description="Folder of the store that keeps a copy of resume_dir; None: no copy"
    )
    messages: str = Field(description="File to append messages to, or with `upload` a folder of the store")
    upload: bool = Field(default=False, description="Outputs and messages go to the store, as in a pod")
    runtime: Runtime
    import_path: list[str] = Field(default_factory=list, description="Folders to add to sys.path")
