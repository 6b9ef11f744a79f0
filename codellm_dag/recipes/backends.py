"""Which framework trains a model, and how it spreads the model over processes.

What a backend cannot express at all is refused here, when the recipe is read; what it cannot do with the rest
of a recipe its module says (`training/backends/protocol.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field, model_validator

from codellm_dag.recipes.base import Recipe

BackendName = Literal[
    "trainer",
    "deepspeed",
    "fsdp2",
    "llamafactory",
    "swift",
    "megatron_swift",
    "torchtitan",
    "megatron",
    "megatron_deepspeed",
    "colossalai",
    "verl",
]
BACKENDS: tuple[str, ...] = get_args(BackendName)
"""Names of all backends; each is a module of `codellm_dag.training.backends`."""

_EXPRESSES: Mapping[str, tuple[str, ...]] = {
    "trainer": (),
    "deepspeed": ("zero_stage", "offload"),
    "fsdp2": ("hybrid_sharding",),
    "llamafactory": (),
    "swift": (),
    "megatron_swift": ("tensor_parallel", "pipeline_parallel", "expert_parallel", "context_parallel"),
    "torchtitan": (
        "hybrid_sharding",
        "tensor_parallel",
        "pipeline_parallel",
        "expert_parallel",
        "context_parallel",
    ),
    "megatron": ("tensor_parallel", "pipeline_parallel", "expert_parallel", "context_parallel"),
    "megatron_deepspeed": ("zero_stage", "offload", "tensor_parallel", "pipeline_parallel"),
    "colossalai": ("zero_stage", "offload", "tensor_parallel", "pipeline_parallel"),
    "verl": ("hybrid_sharding", "offload"),
}
"""Fields of `Backend` beside its name that a backend can express."""

_DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {"deepspeed": ("deepspeed",)}
"""Distributions of this environment that a backend adds to the packages of a stage's fingerprint. Frameworks
with an environment of their own name their pinned requirements beside their module, so that the pins are part
of the code digest."""


def uneven_groups(group: int, processes: int) -> str:
    """Why `processes` cannot be cut into sharding groups of `group`; empty if they can or `group` is 0."""
    if not group or processes % group == 0:
        return ""
    fitting = ", ".join(str(number) for number in range(1, processes + 1) if processes % number == 0)
    return f"backend.hybrid_sharding = {group} does not divide {processes} processes; allowed: 0, {fitting}"


class Backend(Recipe):
    """The framework that trains, and its sharding; by default Hugging Face's Trainer without any."""

    name: BackendName = Field(
        default="trainer",
        description="Framework; trainer is Hugging Face's, several processes with DistributedDataParallel.",
    )
    zero_stage: int = Field(
        default=0,
        ge=0,
        le=3,
        description="DeepSpeed ZeRO: what is sharded; 0 nothing, 1 optimizer state, 2 gradients too, 3 "
        "parameters too (Rajbhandari et al. 2020, section 5).",
    )
    offload: bool = Field(
        default=False,
        description="Optimizer state (with ZeRO-2 gradients too, with ZeRO-3 parameters too) lies in host "
        "memory (ZeRO-Offload, Ren et al. 2021); needs zero_stage of at least 1 where the backend is "
        "DeepSpeed's.",
    )
    hybrid_sharding: int = Field(
        default=0,
        ge=0,
        le=65_536,
        description="Processes of one sharding group; between groups the model is replicated (HSDP, Zhao et "
        "al. 2023). 0 shards over all processes.",
    )
    tensor_parallel: int = Field(
        default=1, ge=1, le=1024, description="Devices that share every matrix (Megatron-LM's TP)."
    )
    pipeline_parallel: int = Field(
        default=1, ge=1, le=1024, description="Stages of layers in a pipeline (PP)."
    )
    expert_parallel: int = Field(
        default=1, ge=1, le=1024, description="Devices that share a layer's experts (EP); dense models: 1."
    )
    context_parallel: int = Field(default=1, ge=1, le=1024, description="Devices that share a sequence (CP).")

    @model_validator(mode="after")
    def _expressible(self) -> Backend:
        lines = []
        for field, info in type(self).model_fields.items():
            value = getattr(self, field)
            if field != "name" and value != info.default and field not in _EXPRESSES[self.name]:
                can = ", ".join(name for name in BACKENDS if field in _EXPRESSES[name])
                lines.append(
                    f"backend.{field} = {value}: {self.name} cannot express it; allowed: {info.default}, or "
                    f"backend.name one of {can}"
                )
        if self.offload and self.zero_stage == 0 and "zero_stage" in _EXPRESSES[self.name]:
            lines.append("backend.offload = True: needs backend.zero_stage; allowed: 1 to 3")
        if lines:
            raise ValueError("; ".join(lines))
        return self

    @property
    def module(self) -> str:
        """The backend's module, the only one of all backends that a stage with this recipe reaches."""
        return f"codellm_dag.training.backends.{self.name}"

    @property
    def packages(self) -> tuple[str, ...]:
        """Distributions whose version is part of the fingerprint, beside the stage's own."""
        return _DISTRIBUTIONS.get(self.name, ())
