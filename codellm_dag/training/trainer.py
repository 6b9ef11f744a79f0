"""Training a causal model on packed rows: Hugging Face's `Trainer` with our data order, loss and checkpoints.

What it adds to `Trainer`: rows never attend across pieces; the loss is the mean over all targets of the
global batch; rows are read in an order that follows from the seed alone; every step's loss is reported and
a loss that is not finite stops the run; checkpoints to resume from are whole or absent and belong to one
run; a resumed run ends in the same bytes as one that was never stopped; a run that is asked to end saves
after its step. Stages are `pretrained_checkpoint.py` and `sft_checkpoint.py`.

Several processes (torchrun) share the global batch: micro-batch k of a step goes to rank k mod size, so all
see the rows that one process sees, and the loss is the mean over the same targets. Every process holds the
whole model (DistributedDataParallel); sharded models are not covered here.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.utils import logging as transformers_logging

from codellm_dag.stages.protocol import Report, Stopped
from codellm_dag.training.batches import MicroBatches, OrderedRows, accumulation_steps
from codellm_dag.training.callbacks import Reporter
from codellm_dag.training.checkpoints import ResumeFolder
from codellm_dag.training.determinism import deterministic
from codellm_dag.training.model import TargetLosses, target_losses
from codellm_dag.training.optimizer import make_optimizer
from codellm_dag.training.plan import DivergedError, Plan, ResumeMismatchError, Trained
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import IGNORED, Rows
from codellm_dag.training.schedule import learning_rate_share


def train(model: Any, rows: Rows, plan: Plan, report: Report) -> Trained:
    """Train `model` in place on `rows` by `plan`, resuming from ``report.resume_dir`` where it can.

    Raises DivergedError when a loss or gradient norm is not finite, UnevenBatchError, and Stopped.
    """
    transformers_logging.disable_progress_bar()
    processes = Processes.join()
    folder = ResumeFolder(report.resume_dir, plan.identity)
    start = _common_start(folder, processes)
    report.log(f"resuming from {start.name}" if start else "no checkpoint to resume from")
    history = folder.processes_of(start) if start else []
    if history[-1:] != [processes.size]:
        history.append(processes.size)
    if len(history) > 1:
        report.metric(processes=", then ".join(map(str, history)))
    arguments = _arguments(plan, report.resume_dir, processes.size)
    order = OrderedRows(rows, plan.steps * plan.batch.global_rows, plan.seed)
    trainer = PackedTrainer(model, order, plan, folder, arguments, processes, history)
    reporter = Reporter(plan, rows, report, processes)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(reporter)
    with deterministic():
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    if reporter.stopped:
        raise Stopped(f"asked to end; saved after step {trainer.state.global_step} of {plan.steps}")
    entries = trainer.state.log_history
    losses = [entry["loss"] for entry in entries if "loss" in entry]
    return Trained(losses, int(sum(entry.get("targets", 0) for entry in entries)))


def _common_start(folder: ResumeFolder, processes: Processes) -> Path | None:
    """The checkpoint that rank 0 resumes from, in every process."""
    latest = folder.latest()
    name = processes.word_of_first(latest.name if latest else "")
    if not name:
        return None
    start = folder.named(name)
    if start is None:
        raise ResumeMismatchError(f"rank {processes.rank} does not hold {name}, from which rank 0 resumes")
    return start


def _arguments(plan: Plan, folder: Path, processes: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=plan.steps,
        per_device_train_batch_size=plan.batch.micro_rows,
        gradient_accumulation_steps=accumulation_steps(plan.batch, processes),
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


class PackedTrainer(Trainer):
    """`Trainer` on packed rows whose labels are already moved by one (see `rows.py`)."""

    def __init__(
        self,
        model: Any,
        rows: OrderedRows,
        plan: Plan,
        folder: ResumeFolder,
        arguments: TrainingArguments,
        processes: Processes,
        history: list[int],
    ) -> None:
        super().__init__(model=model, args=arguments, train_dataset=rows)
        self.plan = plan
        self.folder = folder
        self.processes = processes
        self.process_history = history
        self.targets = 0
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the global batch's targets

    def get_train_dataloader(self) -> DataLoader:
        """This rank's rows in their given order."""
        rows = self.train_dataset
        assert isinstance(rows, OrderedRows)
        batches = MicroBatches(len(rows), self.plan.batch.micro_rows, self.processes)
        return DataLoader(rows, batch_sampler=batches)

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
        """This micro-batch's share of the mean loss over the global batch's targets.

        With several processes times their number, since gradients are averaged over them.
        """
        del return_outputs
        batch = inputs["input_ids"], inputs["position_ids"], inputs["labels"]
        self.targets = int(num_items_in_batch)
        if self.processes.size > 1:
            return model(*batch).sum() * self.processes.size / num_items_in_batch
        return target_losses(model, *batch, IGNORED).sum() / num_items_in_batch

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
        return str(self.folder.partial)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.processes.first:
            self.folder.clear_partial()
        super()._save_checkpoint(model, trial)
        if self.processes.first:
            self.folder.publish(self.state.global_step, self.process_history)

    def _save_rng_state(self, output_dir: str) -> None:
        """Every rank's, by rank 0, which alone may be able to keep files."""
        with tempfile.TemporaryDirectory() as scratch:
            super()._save_rng_state(scratch)
            (own,) = Path(scratch).iterdir()
            name = "rng_state_{}.pth" if self.processes.size > 1 else own.name
            for rank, data in enumerate(self.processes.bring_to_first(own.read_bytes())):
                Path(output_dir, name.format(rank)).write_bytes(data)
