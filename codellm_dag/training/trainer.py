"""Training a causal model on packed rows: Hugging Face's `Trainer` with our data order, loss and checkpoints.

What it adds to `Trainer`: rows never attend across pieces; the loss is the mean over all targets of the
global batch; rows are read in an order that follows from the seed alone; every step's loss is reported and
a loss that is not finite stops the run; checkpoints to resume from are whole or absent and belong to one
run; a resumed run ends in the same bytes as one that was never stopped. Stages are
`pretrained_checkpoint.py` and `sft_checkpoint.py`. One process; several devices are not covered here.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from codellm_dag.recipes.training import Batch
from codellm_dag.recipes.training import Optimizer as OptimizerRecipe
from codellm_dag.training.checkpoints import ResumeFolder
from codellm_dag.training.determinism import deterministic
from codellm_dag.training.model import target_losses
from codellm_dag.training.optimizer import make_optimizer
from codellm_dag.training.rows import IGNORED, Rows, row_order
from codellm_dag.training.schedule import learning_rate_share

SAVE_SECONDS = 20.0
"""Seconds between checkpoints to resume from; it changes no result."""


class DivergedError(RuntimeError):
    """The loss or the gradient is not finite; the message names step and knobs."""

    label = "diverged"  # the ledger's word for it


@dataclass(frozen=True)
class Plan:
    """How a run trains. ``steps``: optimiser steps, at least 1. ``identity`` names the run whose checkpoints
    may be resumed.
    """

    optimizer: OptimizerRecipe
    batch: Batch
    steps: int
    seed: int
    identity: str


@dataclass(frozen=True)
class Trained:
    """What a run did. ``losses``: mean loss in nats of each step; ``targets``: tokens that had a loss."""

    losses: list[float]
    targets: int


def train(model: Any, rows: Rows, plan: Plan, report: Any) -> Trained:
    """Train `model` in place on `rows` by `plan`, resuming from ``report.resume_dir`` where it can.

    Raises DivergedError when a loss or gradient norm is not finite.
    """
    transformers_logging.disable_progress_bar()
    folder = ResumeFolder(report.resume_dir, plan.identity)
    start = folder.latest()
    report.log(f"resuming from {start.name}" if start else "no checkpoint to resume from")
    arguments = _arguments(plan, report.resume_dir)
    trainer = PackedTrainer(model, _OrderedRows(rows, plan), plan, folder, arguments)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Reporter(plan, rows, report))
    with deterministic():
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    history = trainer.state.log_history
    losses = [entry["loss"] for entry in history if "loss" in entry]
    return Trained(losses, int(sum(entry.get("targets", 0) for entry in history)))


def _arguments(plan: Plan, folder: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.batch.micro_rows,
        gradient_accumulation_steps=plan.batch.global_rows // plan.batch.micro_rows,
        max_grad_norm=plan.optimizer.gradient_clip,
        seed=plan.seed,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
    )


class _OrderedRows(Dataset):
    """All rows of the run in the order they are read, as tensors."""

    def __init__(self, rows: Rows, plan: Plan) -> None:
        self.rows = rows
        self.order = row_order(len(rows), plan.steps * plan.batch.global_rows, plan.seed)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        tokens, positions, targets = self.rows.row(int(self.order[index]))
        return {
            "input_ids": torch.from_numpy(tokens),
            "position_ids": torch.from_numpy(positions),
            "labels": torch.from_numpy(targets),
        }


class PackedTrainer(Trainer):
    """`Trainer` on packed rows whose labels are already moved by one (see `rows.py`)."""

    def __init__(
        self, model: Any, rows: _OrderedRows, plan: Plan, folder: ResumeFolder, arguments: TrainingArguments
    ) -> None:
        super().__init__(model=model, args=arguments, train_dataset=rows)
        self.plan = plan
        self.folder = folder
        self.targets = 0
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the global batch's targets

    def get_train_dataloader(self) -> DataLoader:
        """Rows in their given order."""
        assert self.train_dataset is not None
        return DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_size=self.plan.batch.micro_rows,
            sampler=SequentialSampler(self.train_dataset),  # type: ignore[arg-type]
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The recipe's optimizer."""
        del model
        self.optimizer = make_optimizer(self.model, self.plan.optimizer)  # type: ignore[arg-type]
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The recipe's schedule on every group's own peak."""
        del optimizer
        assert self.optimizer is not None
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: learning_rate_share(step, num_training_steps, self.plan.optimizer)
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """This micro-batch's share of the mean loss over the global batch's targets."""
        del return_outputs
        losses = target_losses(model, inputs["input_ids"], inputs["position_ids"], inputs["labels"], IGNORED)
        self.targets = int(num_items_in_batch)
        return losses.sum() / num_items_in_batch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep the step's targets in the history, and stop a run that diverged before anything is saved."""
        if "loss" in logs:
            logs["targets"] = self.targets
            for name in ("loss", "grad_norm"):
                value = logs.get(name, 0.0)
                if not math.isfinite(value):
                    raise DivergedError(
                        f"{name} is {value} at step {self.state.global_step} of {self.plan.steps}; lower "
                        "learning_rate or matrix_learning_rate, or lengthen warmup_fraction"
                    )
        super().log(logs, start_time)

    def _get_output_dir(self, trial: Any) -> str:
        del trial
        return str(self.folder.partial())

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.folder.publish(self.state.global_step)


class _Reporter(TrainerCallback):
    """Tells `report` how training goes, and asks for checkpoints by the clock."""

    def __init__(self, plan: Plan, rows: Rows, report: Any) -> None:
        self.plan, self.report = plan, report
        self.step_tokens = plan.batch.global_rows * rows.sequence_length
        self.saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report what an earlier attempt did, so that curves are whole."""
        del args, control, kwargs
        for entry in state.log_history:
            self._point(entry)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save where the last checkpoint is long ago and this is not the last step."""
        del args, kwargs
        if time.monotonic() - self.saved >= SAVE_SECONDS and state.global_step < self.plan.steps:
            control.should_save = True
            self.saved = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One point a step."""
        del args, control, kwargs
        self._point(state.log_history[-1])

    def _point(self, entry: dict[str, float]) -> None:
        if "loss" not in entry:
            return
        step = int(entry["step"])
        self.report.point(
            step,
            loss=entry["loss"],
            learning_rate=entry["learning_rate"],
            grad_norm=entry.get("grad_norm", 0.0),
        )
        done, total = step * self.step_tokens, self.plan.steps * self.step_tokens
        self.report.progress(done, total, unit="tokens", note=f"loss {entry['loss']:.3f}")
