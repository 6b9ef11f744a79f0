"""How often a run saves what it can be resumed from, and how: at once, or by a thread from a copy.

The time T between two checkpoints is the one that loses least, ``C / T + T / (2 M)`` of all time:
``sqrt(2 C M)``, known as Young's interval (1974, "A first order approximation to the optimum checkpoint
interval"; Daly 2006 goes to higher orders), C being the seconds that training waits for a checkpoint, M those
between two failures of any machine of the run. C is measured at each checkpoint. Sharded models are saved by
their own backends, never by a thread.
"""

from __future__ import annotations

import copy
import math
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from codellm_dag.training.processes import Processes

FIRST_SAVE_SECONDS = 20.0
"""Seconds before the first checkpoint, and between two at least."""
MOST_SAVING = 0.05
"""Share of its time that a run spends on saving, at most, whatever the failures."""
THREAD_SECONDS = 0.5
"""A checkpoint that takes longer to write than this is written by a thread from then on."""


def save_interval(cost: float, hours_between_failures: float, machines: int) -> float:
    """Seconds between two checkpoints of a run on so many `machines`; ``cost``: seconds that one takes."""
    young = math.sqrt(2 * cost * hours_between_failures * 3600 / machines)
    return max(FIRST_SAVE_SECONDS, cost / MOST_SAVING, young)


def machines_of(processes: Processes) -> int:
    """On how many machines the processes of a group run, as torchrun tells."""
    return max(1, processes.size // int(os.environ.get("LOCAL_WORLD_SIZE", processes.size)))


class Saver:
    """Saves in this thread or in another, one checkpoint at a time, and knows what the last one cost."""

    def __init__(self, may_use_thread: bool) -> None:
        self.cost = 0.0  # seconds that training waited for the last checkpoint
        self.may_use_thread = may_use_thread
        self.by_thread = False  # whether the next one is written by a thread
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether a thread is writing."""
        return self._thread is not None and self._thread.is_alive()

    def save(self, directly: Callable[[], None], from_copy: Callable[[], Callable[[], None]]) -> None:
        """Save `directly`; or call `from_copy`, which copies the state, and a thread calls what it returns.

        Raises what the writing of this checkpoint, or of the last one by a thread, raised.
        """
        self.wait()
        began = time.monotonic()
        if self.by_thread:
            write = from_copy()
            self._thread = threading.Thread(target=self._write, args=(write,), name="save", daemon=True)
            self._thread.start()
        else:
            directly()
        self.cost = time.monotonic() - began
        self.by_thread = self.by_thread or (self.may_use_thread and self.cost > THREAD_SECONDS)

    def wait(self) -> None:
        """Wait for the thread, if there is one. Raises what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:
            self._error = error


def snapshot(trainer: Any) -> Callable[[Path], None]:
    """Copy what a `Trainer` whose model is whole in this process would save; how to write it to a folder.

    Writes the files that `Trainer` itself reads, but for the random state.
    """
    copies: dict[tuple[Any, ...], torch.Tensor] = {}
    model = _copied(trainer.accelerator.unwrap_model(trainer.model).state_dict(), copies)
    parts = {"optimizer.pt": trainer.optimizer, "scheduler.pt": trainer.lr_scheduler}
    if getattr(trainer.accelerator, "scaler", None) is not None:
        parts["scaler.pt"] = trainer.accelerator.scaler
    states = {name: _copied(part.state_dict(), copies) for name, part in parts.items()}
    progress = copy.deepcopy(trainer.state)

    def write(folder: Path) -> None:
        trainer._save(str(folder), state_dict=model)
        for name, state in states.items():
            torch.save(state, folder / name)
        progress.save_to_json(str(folder / "trainer_state.json"))

    return write


def _copied(value: Any, copies: dict[tuple[Any, ...], torch.Tensor]) -> Any:
    """`value` with all tensors copied to the CPU; what shares memory shares it in the copy too."""
    if isinstance(value, torch.Tensor):
        key = (value.data_ptr(), value.dtype, tuple(value.shape), value.stride())
        if key not in copies or not value.numel():
            copies[key] = value.detach().to("cpu", copy=True)
        return copies[key]
    if isinstance(value, dict):
        return type(value)((key, _copied(part, copies)) for key, part in value.items())
    if isinstance(value, list | tuple):
        return type(value)(_copied(part, copies) for part in value)
    return copy.deepcopy(value)
