"""Training a causal model on packed rows: Hugging Face's `Trainer` with our data order, loss and checkpoints.

What it adds to `Trainer`: rows never attend across pieces; the loss is the mean over all targets of the
global batch; rows are read in an order that follows from the seed alone; every step's loss is reported; one
that goes wrong stops the run or sends it back (`divergence.py`); checkpoints to resume from are whole or
absent and belong to one run; a resumed run ends in the same bytes as one that was never stopped; a run that
is asked to end saves after its step. Stages are `pretrained_checkpoint.py` and `sft_checkpoint.py`.

Several processes (torchrun) share the global batch: micro-batch k of a step goes to rank k mod size, so all
see the rows that one process sees, and the loss is the mean over the same targets. Every process holds the
whole model (DistributedDataParallel); sharded models are not covered here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from codellm_dag.training.batches import MicroBatches, OrderedRows
from codellm_dag.training.checkpoints import ResumeFolder
from codellm_dag.training.compute import autocast
from codellm_dag.training.divergence import Diverging, Rollback, trouble
from codellm_dag.training.model import RouterBalance, TargetLosses, causal_model, packed_losses
from codellm_dag.training.optimizer import make_optimizer
from codellm_dag.training.plan import Plan
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import IGNORED
from codellm_dag.training.saving import Saver, snapshot
from codellm_dag.training.schedule import learning_rate_factor


class PackedTrainer(Trainer):
    """`Trainer` on packed rows whose labels are already moved by one (see `rows.py`)."""

    whole_model = True
    """Whether each process holds the whole model; only then are checkpoints written by a thread."""

    fp16_needs_gpu = True
    """accelerate scales losses on GPUs only."""

    def __init__(
        self,
        model: Any,
        rows: OrderedRows,
        plan: Plan,
        folder: ResumeFolder,
        arguments: TrainingArguments,
        processes: Processes,
        layouts: list[str],
    ) -> None:
        super().__init__(model=model, args=arguments, train_dataset=rows)
        self.plan = plan
        self.folder = folder
        self.processes = processes
        self.layouts = layouts
        self.targets = 0
        self.saver = Saver(processes.first and self.whole_model)
        self.rollbacks: list[Rollback] = []
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the global batch's targets
        self._loss_shifts_labels = False  # labels are moved by one already: all of them count as targets

    @classmethod
    def model_to_go_back(cls, model: Any) -> Any:
        """What a run that goes back loads a checkpoint into: here the same `model`."""
        return model

    def gathered_model(self) -> Any:
        """The trained model with all its weights in rank 0, None in other ranks; all ranks call it."""
        return self.model if self.processes.first else None

    def get_train_dataloader(self) -> DataLoader:
        """This rank's rows in their given order."""
        rows = self.train_dataset
        assert isinstance(rows, OrderedRows)
        batches = MicroBatches(self.plan, self.processes)
        return DataLoader(rows, batch_sampler=batches, collate_fn=rows.together)

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        if self.processes.size == 1:
            return super()._wrap_model(model, training, dataloader)
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else None
        # With find_unused_parameters the buckets are never laid out anew after the first step. Their layout
        # decides the order of sums, and a resumed run must sum as the first one did. PyTorch warns once that
        # it found none unused.
        return DistributedDataParallel(
            TargetLosses(model, IGNORED), devices, forward_sync_buffers=False, find_unused_parameters=True
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The recipe's optimizer."""
        del model
        assert isinstance(self.model, torch.nn.Module)
        self.optimizer = make_optimizer(self.model, self.plan.optimizer)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The recipe's schedule on every group's own peak."""
        del optimizer, num_training_steps
        assert self.optimizer is not None
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_factor(step, self.plan)
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """Loss and gradients of a micro-batch; none of one that a smaller batch leaves empty."""
        if not len(inputs["input_ids"]):
            return torch.zeros((), device=self.args.device)
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This micro-batch's share of the mean loss over the global batch's targets.

        With several processes times their number, since gradients are averaged over them.
        """
        del return_outputs
        batch = inputs["input_ids"], inputs["position_ids"], inputs["labels"]
        self.targets = int(num_items_in_batch)
        with autocast(self.plan.compute):
            losses = self.row_losses(model, batch)
        if isinstance(losses, RouterBalance):
            weight = causal_model(self.model).config.router_aux_loss_coef
            balance = losses.balance * (weight / self.plan.schedule.at(self.state.global_step).rows)
            return (losses.targets.sum() / num_items_in_batch + balance) * self.processes.size
        return losses.sum() * self.processes.size / num_items_in_batch

    def row_losses(self, model: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor | RouterBalance:
        """The losses of the targets of these rows."""
        tokens, positions, targets = batch
        if self.processes.size > 1:
            return model(tokens, positions, targets)
        return packed_losses(model, tokens, positions, targets, IGNORED)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep the step's targets in the history. Raises Diverging, before anything is saved."""
        if "loss" in logs:
            logs["targets"] = self.targets
            recipe = self.plan.divergence
            before = [entry["loss"] for entry in self.state.log_history[-recipe.spike_window :]]
            # Where the loss is scaled, a step whose gradients overflow is left out and the scale is lowered.
            norm = 0.0 if self.plan.compute.precision == "fp16" else logs.get("grad_norm", 0.0)
            if reason := trouble(before, logs["loss"], norm, recipe):
                raise Diverging(self.state.global_step, reason)
        super().log(logs, start_time)

    def _get_output_dir(self, trial: Any) -> str:
        del trial
        return str(self.folder.partial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.saver.save(lambda: self._save_here(model, trial), self._save_a_copy)

    def _save_here(self, model: Any, trial: Any) -> None:
        if self.processes.first:
            self.folder.clear_partial()
        super()._save_checkpoint(model, trial)
        if self.processes.first:
            self.folder.publish(self.state.global_step, self.layouts, self.rollbacks)

    def _save_a_copy(self) -> Callable[[], None]:
        step = self.state.global_step
        self.store_flos()  # other ranks save directly: what `Trainer` asks of all there is asked here too
        self.folder.clear_partial()
        written = self.folder.partial / f"checkpoint-{step}"
        written.mkdir()
        self._save_rng_state(str(written))
        write = snapshot(self)

        def finish() -> None:
            write(written)
            self.folder.publish(step, self.layouts, self.rollbacks)

        return finish

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        model: Any = self.model
        if causal_model(model) is not model:  # of adapters it loads what it saves
            super()._save(output_dir, state_dict)
        else:  # as it loads them again: by default experts are saved one by one, and not found
            model.save_pretrained(output_dir, state_dict=state_dict, save_original_format=False)

    def _save_rng_state(self, output_dir: str) -> None:
        """Every rank's, by rank 0, which alone may be able to keep files."""
        with tempfile.TemporaryDirectory() as scratch:
            super()._save_rng_state(scratch)
            (own,) = Path(scratch).iterdir()
            name = "rng_state_{}.pth" if self.processes.size > 1 else own.name
            for rank, data in enumerate(self.processes.bring_to_first(own.read_bytes())):
                Path(output_dir, name.format(rank)).write_bytes(data)
