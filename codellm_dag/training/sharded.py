"""What trainers that share a model out over processes have in common: how it is called, and how it is saved.

Each rank writes its own part of a checkpoint. Where ranks have disks of their own, the parts travel to rank
0's, which alone publishes a checkpoint and whose files alone are copied to the store; a node that takes the
run up again has fetched the whole checkpoint from there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any, ClassVar

import torch
from transformers import Trainer

from codellm_dag.training.disks import bring_files_to_first
from codellm_dag.training.model import RouterBalance, causal_model, packed_losses
from codellm_dag.training.rows import IGNORED
from codellm_dag.training.trainer import PackedTrainer


class ShardedTrainer(PackedTrainer):
    """`PackedTrainer` on a model of which each process holds a part. Subclasses shard and save it."""

    whole_model = False

    model: Any
    build: ClassVar[Callable[..., Any]]
    """Makes another model like the one that is trained, as it was before training; a backend says how."""

    def __init__(self, model: Any, *arguments: Any, **more: Any) -> None:
        super().__init__(model, *arguments, **more)
        # Shards are gathered around the forward pass of the module that was sharded, so the losses are it.
        model.forward = MethodType(_forward, model)

    @classmethod
    def model_to_go_back(cls, model: Any) -> Any:
        """A new model: one that was shared out is not shared out again."""
        del model
        return cls.new_model()

    @classmethod
    def new_model(cls) -> Any:
        """What `build` makes, whole."""
        return cls.build()

    def row_losses(self, model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor | RouterBalance:
        """The losses of the targets of these rows."""
        return model(*batch)

    def empty_model(self) -> Any:
        """A model of this kind to be filled with all weights, in rank 0; None in other ranks."""
        if not self.processes.first:
            return None
        whole = self.new_model()
        causal_model(whole).config = causal_model(self.model).config  # as `Trainer` leaves it
        return whole

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Only make the folder: a checkpoint's weights are in the parts that the ranks write."""
        del _internal_call
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)

    def _save_here(self, model: Any, trial: Any) -> None:
        if self.processes.first:
            self.folder.clear_partial()
        self.processes.any(False)
        Trainer._save_checkpoint(self, model, trial)
        bring_files_to_first(self.folder.partial, self.processes)
        if self.processes.first:
            self.folder.publish(self.state.global_step, self.layouts, self.rollbacks)
        self.processes.any(False)


def _forward(
    model: Any, tokens: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor | RouterBalance:
    return packed_losses(model, tokens, positions, targets, IGNORED)
