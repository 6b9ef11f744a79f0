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

import gc
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.utils import logging as transformers_logging

from codellm_dag.stages.protocol import Report, Stopped
from codellm_dag.training.batches import MicroBatches, OrderedRows, accumulation_steps
from codellm_dag.training.callbacks import Reporter, SaveWhenDue
from codellm_dag.training.checkpoints import ResumeFolder
from codellm_dag.training.compute import autocast, check_compute, compute_arguments, prepare
from codellm_dag.training.determinism import deterministic
from codellm_dag.training.divergence import Diverging, Rollback, trouble
from codellm_dag.training.model import RouterBalance, TargetLosses, causal_model, packed_losses
from codellm_dag.training.optimizer import make_optimizer
from codellm_dag.training.plan import DivergedError, Plan, ResumeMismatchError, Trained
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import IGNORED, Rows
from codellm_dag.training.saving import Saver, snapshot
from codellm_dag.training.schedule import learning_rate_share
from codellm_dag.training.speed import Speed, flops_per_token
from codellm_dag.training.trackers import check_trackers


def train(
    model: Any, rows: Rows, plan: Plan, report: Report, kind: type[PackedTrainer] | None = None, **more: Any
) -> tuple[Trained, Any]:
    """Train `model` on `rows` by `plan`, resuming from ``report.resume_dir`` where it can.

    `kind` is the trainer, by default `PackedTrainer`; `more` are further `TrainingArguments`. The second
    value is the whole trained model, in rank 0, and None in the others.
    Raises DivergedError when a loss goes wrong and the recipe allows no (further) rollback, UnevenBatchError,
    and Stopped.
    """
    transformers_logging.disable_progress_bar()
    run = _Run(model, rows, plan, report, kind or PackedTrainer, more)
    return run.train(), run.model


class _Run:
    """A run from where it is resumed to its end, rollbacks included."""

    def __init__(
        self,
        model: Any,
        rows: Rows,
        plan: Plan,
        report: Report,
        kind: type[PackedTrainer],
        more: Mapping[str, Any],
    ) -> None:
        self.model, self.rows, self.plan, self.report = model, rows, plan, report
        self.kind, self.more = kind, more
        self.processes = Processes.join()
        check_trackers(report.runtime.report_to)
        check_compute(plan.compute)
        prepare(model, plan.compute)
        keep = report.runtime.keep_checkpoints
        self.folder = ResumeFolder(report.resume_dir, plan.identity, keep, plan.rollback_steps)
        self.layouts: list[str] = []
        self.rollbacks: list[Rollback] = []
        per_token = flops_per_token(model, rows.sequence_length)
        self.speed = Speed(per_token, self.processes.size, half=plan.compute.precision != "fp32")

    def train(self) -> Trained:
        start = _common_start(self.folder, self.processes)
        self.report.log(f"resuming from {start.name}" if start else "no checkpoint to resume from")
        if start:
            self.layouts, self.rollbacks = self.folder.layouts_of(start), self.folder.rollbacks_of(start)
        if self.layouts[-1:] != [layout := f"{self.processes.size}x{self.plan.micro_rows}"]:
            self.layouts.append(layout)
        if len(self.layouts) > 1:
            self.report.metric(processes=", then ".join(self.layouts))
        while isinstance(end := self._train_from(start), Diverging):
            self.rollbacks.append(_rollback(end, self.plan, len(self.rollbacks)))
            self.report.log(f"step {end.step}: {end.reason}; going back to {self.rollbacks[-1].back_to}")
            start = self._go_back(self.rollbacks[-1])
        if self.rollbacks:
            skipped = sum(rollback.rows for rollback in self.rollbacks)
            self.report.metric(rollbacks=len(self.rollbacks), rows_skipped=skipped)
            self.report.table("rollbacks", [asdict(rollback) for rollback in self.rollbacks[:100]])
        return end

    def _train_from(self, start: Path | None) -> Trained | Diverging:
        """Train from a checkpoint, or from the beginning, to the end or to a step that goes wrong."""
        plan, report, processes = self.plan, self.report, self.processes
        values = trainer_arguments(plan, report.resume_dir, processes.size)
        values |= {"report_to": list(report.runtime.report_to) or "none", "run_name": plan.identity[:16]}
        arguments = TrainingArguments(**{**values, **compute_arguments(plan.compute), **self.more})
        order = OrderedRows(self.rows, plan.rows_until(plan.steps), plan.seed, self.rollbacks)
        trainer = self.kind(self.model, order, plan, self.folder, arguments, processes, self.layouts)
        trainer.rollbacks = self.rollbacks
        saves = SaveWhenDue(plan, report, processes, trainer.saver)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Reporter(plan, self.rows, report, self.speed))
        trainer.add_callback(saves)
        try:
            with deterministic():
                trainer.train(resume_from_checkpoint=str(start) if start else None)
        except Diverging as diverging:
            return Diverging(diverging.step, diverging.reason)  # without frames that hold the trainer
        finally:
            trainer.saver.wait()
        if saves.stopped:
            raise Stopped(f"asked to end; saved after step {trainer.state.global_step} of {plan.steps}")
        self.model = trainer.gathered_model()
        entries = trainer.state.log_history
        losses = [entry["loss"] for entry in entries if "loss" in entry]
        return Trained(losses, int(sum(entry.get("targets", 0) for entry in entries)))

    def _go_back(self, rollback: Rollback) -> Path | None:
        """The checkpoint to go on from, in every process; it tells of the rollbacks from now on."""
        gc.collect()  # a DistributedDataParallel that is gone leaves the parameters' gradients alone
        if self.processes.first:
            found = self.folder.to_go_back_to(rollback.step)
            assert found is not None, f"no checkpoint at a multiple of {self.plan.rollback_steps} steps"
            self.folder.go_back_to(found, self.rollbacks)
        return _common_start(self.folder, self.processes)


def _rollback(diverging: Diverging, plan: Plan, before: int) -> Rollback:
    """How to go on after a step that went wrong, `before` rollbacks having been made already.

    Raises DivergedError where the recipe allows no (further) rollback.
    """
    why = f"{diverging.reason} at step {diverging.step} of {plan.steps}"
    advice = "lower learning_rate or matrix_learning_rate, or lengthen warmup_fraction"
    if not plan.rollback_steps:
        raise DivergedError(f"{why}; {advice}")
    if before == plan.divergence.rollbacks:
        raise DivergedError(f"{why}, after {before} rollbacks, as many as are allowed; {advice}")
    back_to = (diverging.step - 1) // plan.rollback_steps * plan.rollback_steps
    if not back_to:
        raise DivergedError(f"{why}, before the first checkpoint to go back to; {advice}")
    first = plan.rows_until(back_to)
    skipped = max(diverging.step, back_to + plan.divergence.skip_steps)
    return Rollback(diverging.step, back_to, first, plan.rows_until(skipped) - first, diverging.reason)


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


def trainer_arguments(plan: Plan, folder: Path, processes: int) -> dict[str, Any]:
    """Values of `TrainingArguments`; `folder` is where nothing is written unless a run asks for it."""
    return {
        "output_dir": str(folder),
        "max_steps": plan.steps,
        "per_device_train_batch_size": plan.micro_rows,
        "gradient_accumulation_steps": accumulation_steps(plan, processes),
        "max_grad_norm": plan.optimizer.gradient_clip,
        "seed": plan.seed,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "use_cpu": not torch.cuda.is_available(),
    }


class PackedTrainer(Trainer):
    """`Trainer` on packed rows whose labels are already moved by one (see `rows.py`)."""

    whole_model = True
    """Whether each process holds the whole model; only then are checkpoints written by a thread."""

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

    def gathered_model(self) -> Any:
        """The trained model with all its weights in rank 0, None in other ranks; all ranks call it."""
        return self.model if self.processes.first else None

    def get_train_dataloader(self) -> DataLoader:
        """This rank's rows in their given order."""
        rows = self.train_dataset
        assert isinstance(rows, OrderedRows)
        batches = MicroBatches(len(rows), self.plan.micro_rows, self.processes)
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
        with autocast(self.plan.compute):
            losses = self.row_losses(model, batch)
        if isinstance(losses, RouterBalance):
            weight = causal_model(self.model).config.router_aux_loss_coef / self.plan.batch.global_rows
            balance = losses.balance * weight
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
