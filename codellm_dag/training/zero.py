"""Training with DeepSpeed's ZeRO: `PackedTrainer` with the engine that Hugging Face's `Trainer` makes of it.

On CPUs DeepSpeed's own collectives over shared memory are not compiled: they need a compiler where training
runs and serve inference only.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from codellm_dag.training.plan import ResumeMismatchError
from codellm_dag.training.processes import Processes
from codellm_dag.training.sharded import ShardedTrainer


class ZeroTrainer(ShardedTrainer):
    """`PackedTrainer` under a DeepSpeed engine of any ZeRO stage.

    Raises ResumeMismatchError if the checkpoint to resume from is another number of processes'.
    """

    def __init__(self, model: Any, *arguments: Any, **more: Any) -> None:
        super().__init__(model, *arguments, **more)
        wrote, here = ([layout.partition("x")[0] for layout in self.layouts] * 2)[-2:]
        if wrote != here:
            raise ResumeMismatchError(
                f"DeepSpeed's checkpoint was written by {wrote} processes and belongs to as many, here are "
                f"{here}; run it on {wrote}, or choose backend.name = fsdp2, whose checkpoints fit any number"
            )

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        del training, dataloader
        return model  # `Trainer` makes the engine

    @classmethod
    def new_model(cls) -> Any:
        """What `build` makes, whole: while ZeRO-3 is on, `transformers` cuts up each model that it loads."""
        unset_hf_deepspeed_config()
        return super().new_model()

    def gathered_model(self) -> Any:
        """A new model with the float32 weights of all ranks, in rank 0."""
        from deepspeed import zero  # pyright: ignore[reportMissingImports]
        from deepspeed.utils import safe_get_full_fp32_param  # pyright: ignore[reportMissingImports]

        whole = self.empty_model()
        targets = dict(whole.named_parameters()) if whole is not None else {}
        for name, parameter in self.model.named_parameters():
            full = safe_get_full_fp32_param(parameter)
            sharded = [parameter] if hasattr(parameter, "ds_id") else []
            with zero.GatheredParameters(sharded, enabled=full is None and bool(sharded)), torch.no_grad():
                if whole is not None:
                    targets[name].copy_(parameter if full is None else full)
        return whole


def join_deepspeed() -> None:
    """Set up DeepSpeed's communication among the processes of this stage, also where there is only one."""
    import deepspeed  # pyright: ignore[reportMissingImports]

    if not torch.cuda.is_available():
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if Processes.join_group().size == 1:  # accelerate asks these variables, nobody connects to the port
        alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
        os.environ.update(alone | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"})
    deepspeed.init_distributed(verbose=False)
