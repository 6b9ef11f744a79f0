"""Training with PyTorch's FSDP2: `PackedTrainer` on parameters that are DTensors, sharded layer by layer.

``fully_shard`` (Zhao et al. 2023, "PyTorch FSDP", in its second version): full sharding over all processes,
or hybrid, over groups of a given size with replication between groups. Checkpoints are
`torch.distributed.checkpoint`'s: another number of processes reads its own part of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from codellm_dag.recipes.training_options import Compute
from codellm_dag.training.compute import HALF
from codellm_dag.training.model import causal_model
from codellm_dag.training.sharded import ShardedTrainer

_SHARDS = "shards"
_SCHEDULE = "scheduler.pt"
_TRAINED = StateDictOptions(ignore_frozen_params=True, strict=False)
"""What checkpoints hold: beside adapters the weights stay as they were."""


class NotShardedError(RuntimeError):
    """A parameter is whole in every process although it was to be sharded."""


def mesh_of(processes: int, group: int) -> DeviceMesh:
    """All processes in one dimension, or groups of `group` (0: all) that hold replicas of each other."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if group in (0, processes):
        return init_device_mesh(device, (processes,), mesh_dim_names=("shard",))
    return init_device_mesh(device, (processes // group, group), mesh_dim_names=("replicate", "shard"))


def shard(model: Any, mesh: DeviceMesh, compute: Compute) -> None:
    """Shard a Hugging Face decoder in place, each layer on its own. Raises NotShardedError.

    In 16 bits the layers' weights are gathered so and their gradients summed in float32; embeddings, the
    output matrix and what flows from layer to layer stay float32, as where nothing is sharded.
    """
    half = HALF.get(compute.precision)
    policy = MixedPrecisionPolicy(half, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in causal_model(model).base_model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh)
    for name, parameter in model.named_parameters():
        if not isinstance(parameter, DTensor):
            raise NotShardedError(f"{name} is a {type(parameter).__name__}, not a DTensor")


class Fsdp2Trainer(ShardedTrainer):
    """`PackedTrainer` on a model sharded over a mesh of all processes, in groups of `sharding_group`."""

    sharding_group = 0
    fp16_needs_gpu = False

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The recipe's optimizer over the shards, which are made here: `Trainer` asks for it first.

        With fp16 losses are scaled, which accelerate by itself does on GPUs only. All processes' gradients
        have a say in the scale; `Trainer` saves and loads it.
        """
        if self.plan.compute.precision == "fp16":
            self.accelerator.scaler = torch.amp.GradScaler(self.args.device.type)
        shard(self.model, mesh_of(self.processes.size, self.sharding_group), self.plan.compute)
        return super().create_optimizer(model)

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        del training, dataloader
        return _Sharded(model)

    def _clip_grad_norm(self, model: Any) -> Any:
        self._unscale()
        return _whole(super()._clip_grad_norm(model))

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        if grad_norm is None:  # gradients are not clipped
            self._unscale()
        return _whole(super()._get_grad_norm(model, grad_norm))

    def _unscale(self) -> None:
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.unscale_(self._own_optimizer())

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        model, optimizer = get_state_dict(self.model, self._own_optimizer(), options=_TRAINED)
        save({"model": model, "optimizer": optimizer}, checkpoint_id=Path(output_dir, _SHARDS))
        if self.processes.first:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, _SCHEDULE))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Nothing yet: weights are loaded into shards, which do not exist at this point."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        optimizer = self._own_optimizer()
        model_state, optimizer_state = get_state_dict(self.model, optimizer, options=_TRAINED)
        state = {"model": model_state, "optimizer": optimizer_state}
        load(state, checkpoint_id=Path(checkpoint, _SHARDS))
        set_state_dict(
            self.model,
            optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=_TRAINED,
        )
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, _SCHEDULE), weights_only=True))

    def _own_optimizer(self) -> torch.optim.Optimizer:
        return getattr(self.optimizer, "optimizer", self.optimizer)  # accelerate wraps it

    def gathered_model(self) -> Any:
        """A new model with the weights of all ranks, in rank 0."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = get_model_state_dict(self.model, options=options)
        whole = self.empty_model()
        if whole is not None:
            whole.load_state_dict(state)
        return whole


class _Sharded(torch.nn.Module):
    """A sharded model that neither `Trainer` nor accelerate takes for one they should wrap."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.module = model

    def forward(self, *batch: torch.Tensor) -> torch.Tensor:
        return self.module(*batch)


def _whole(norm: Any) -> Any:
    """A gradient norm of shards is summed over them."""
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
