"""What is told and asked for while a run trains, as callbacks of Hugging Face's `Trainer`."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback

from codellm_dag.stages.protocol import Report
from codellm_dag.training.plan import Plan
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import Rows

SAVE_SECONDS = 20.0
"""Seconds between checkpoints to resume from, at least; they change no result."""
SAVE_SHARE = 20
"""And at least so many times as long as the last one took to save: at most a twentieth of all time."""


class Reporter(TrainerCallback):
    """Tells `report` how training goes, and asks for checkpoints by the clock."""

    def __init__(self, plan: Plan, rows: Rows, report: Report, processes: Processes) -> None:
        self.plan, self.report, self.processes = plan, report, processes
        self.step_tokens = plan.batch.global_rows * rows.sequence_length
        self.stopped = False
        self._step_ended = self._save_due = time.monotonic() + SAVE_SECONDS

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report what an earlier attempt did, so that curves are whole."""
        del args, control, kwargs
        for entry in state.log_history:
            self._point(entry)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save where the last checkpoint is long ago or the end is asked for; not after the last step."""
        del args, kwargs
        self._step_ended = time.monotonic()
        due = self.processes.first and self._step_ended >= self._save_due  # rank 0's clock counts
        stop, save = self.processes.any(self.report.stop_requested(), due)
        if state.global_step < self.plan.steps:
            control.should_save = save or stop
            control.should_training_stop = self.stopped = stop

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Choose when to save next."""
        del args, state, control, kwargs
        now = time.monotonic()
        self._save_due = now + max(SAVE_SECONDS, SAVE_SHARE * (now - self._step_ended))

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
