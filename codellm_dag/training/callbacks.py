"""What is told and asked for while a run trains, as callbacks of Hugging Face's `Trainer`."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback

from codellm_dag.stages.protocol import Report
from codellm_dag.training import saving
from codellm_dag.training.plan import Plan
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import Rows
from codellm_dag.training.speed import Speed, machine_words


class SaveWhenDue(TrainerCallback):
    """Asks for checkpoints: by the clock, where the recipe wants one to go back to, and before the end.

    ``stopped`` says whether the run was asked to end.
    """

    def __init__(self, plan: Plan, report: Report, processes: Processes, saver: saving.Saver) -> None:
        self.plan, self.report, self.processes, self.saver = plan, report, processes, saver
        self.machines = saving.machines_of(processes)
        self.stopped = False
        self._due = time.monotonic() + saving.FIRST_SAVE_SECONDS

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save where the last checkpoint is long ago or the end is asked for; not after the last step."""
        del args, kwargs
        due = self.processes.first and time.monotonic() >= self._due  # rank 0's clock counts
        due = due and not self.saver.busy
        stop, save = self.processes.any(self.report.stop_requested(), due)
        every = self.plan.rollback_steps
        if state.global_step < self.plan.steps:
            control.should_save = save or stop or (every > 0 and state.global_step % every == 0)
            control.should_training_stop = self.stopped = stop

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Choose when to save next."""
        del args, state, control, kwargs
        hours = self.report.runtime.hours_between_failures
        self._due = time.monotonic() + saving.save_interval(self.saver.cost, hours, self.machines)


class Reporter(TrainerCallback):
    """Tells `report` how training goes."""

    def __init__(self, plan: Plan, rows: Rows, report: Report, speed: Speed) -> None:
        self.plan, self.report, self.speed = plan, report, speed
        self.sequence_length = rows.sequence_length
        self._machine = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report what an earlier attempt did, so that curves are whole."""
        del args, control, kwargs
        for entry in state.log_history:
            self._point(entry)
        self.speed.begin()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One point a step, and how fast it goes."""
        del args, control, kwargs
        entry = state.log_history[-1]
        if "loss" in entry:
            self._point(entry)
            self._measure(int(entry["step"]))

    def _measure(self, step: int) -> None:
        before, done, total = (self.plan.rows_until(at) for at in (step - 1, step, self.plan.steps))
        length = self.sequence_length
        measured = self.speed.step((done - before) * length, (total - done) * length)
        if measured:
            self.report.point(step, **measured)
            self._machine = machine_words(measured)
        self.report.work(self.speed.tokens, self.speed.flops)

    def _point(self, entry: dict[str, float]) -> None:
        if "loss" not in entry:
            return
        step = int(entry["step"])
        grown = {"global_rows": self.plan.schedule.at(step - 1).rows} if self.plan.growth else {}
        self.report.point(
            step,
            loss=entry["loss"],
            learning_rate=entry["learning_rate"],
            grad_norm=entry.get("grad_norm", 0.0),
            **grown,
        )
        done, total = (self.plan.rows_until(at) * self.sequence_length for at in (step, self.plan.steps))
        self.report.progress(done, total, unit="tokens", note=f"loss {entry['loss']:.3f}{self._machine}")
