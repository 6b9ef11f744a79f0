"""A run of the trainer (`trainer.py`) from where it is resumed to its end, rollbacks included."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from codellm_dag.stages.protocol import Report, Stopped
from codellm_dag.training.batches import OrderedRows, accumulation_steps
from codellm_dag.training.callbacks import Reporter, SaveWhenDue
from codellm_dag.training.checkpoints import ResumeFolder
from codellm_dag.training.compute import check_compute, compute_arguments, prepare
from codellm_dag.training.determinism import deterministic
from codellm_dag.training.disks import bring_folder_to_all
from codellm_dag.training.divergence import Diverging, Rollback
from codellm_dag.training.plan import DivergedError, Plan, ResumeMismatchError, Trained
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import Rows
from codellm_dag.training.speed import Speed, flops_per_token
from codellm_dag.training.trackers import check_trackers
from codellm_dag.training.trainer import PackedTrainer


def train(
    model: Any, rows: Rows, plan: Plan, report: Report, kind: type[PackedTrainer] = PackedTrainer, **more: Any
) -> tuple[Trained, Any]:
    """Train `model` on `rows` by `plan`, resuming from ``report.resume_dir`` where it can.

    `kind` is the trainer, by default `PackedTrainer`; `more` are further `TrainingArguments`. The second
    value is the whole trained model, in rank 0, and None in the others.
    Raises DivergedError when a loss goes wrong and the recipe allows no (further) rollback, UnevenBatchError,
    and Stopped.
    """
    transformers_logging.disable_progress_bar()
    run = _Run(model, rows, plan, report, kind, more)
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
        check_compute(plan.compute, fp16_needs_gpu=kind.fp16_needs_gpu)
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
        rows = "/".join(str(part.micro_rows) for part in self.plan.schedule.stretches)
        if self.layouts[-1:] != [layout := f"{self.processes.size}x{rows}"]:
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
        self.model = self.kind.model_to_go_back(self.model)
        prepare(self.model, self.plan.compute)
        name = ""
        if self.processes.first:
            found = self.folder.to_go_back_to(rollback.step)
            assert found is not None, f"no checkpoint at a multiple of {self.plan.rollback_steps} steps"
            name = self.folder.go_back_to(found, self.rollbacks).name
        bring_folder_to_all(self.folder.folder / self.processes.word_of_first(name), self.processes)
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
