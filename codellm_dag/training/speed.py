"""How fast a run goes and what it has done: figures that depend on the machine and are part of no result."""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.training.architecture import of_config
from codellm_dag.training.devices import peak_flops
from codellm_dag.training.flops import training_flops_per_token, utilization

MEASURED = ("tokens_per_second", "mfu", "peak_memory_gib", "seconds_left")
"""Series of points that a clock made: no two runs have the same."""
_EVERY = 1.0  # seconds between two such points
_WINDOW = 30.0  # seconds over which a rate is taken


def flops_per_token(model: Any, sequence_length: int) -> int | None:
    """Operations of one token's forward and backward pass (`flops.py`), None for a type not known there."""
    try:
        return training_flops_per_token(of_config(model.config), sequence_length)
    except InvalidRecipeError:
        return None


def peak_memory() -> int:
    """Most bytes this process has held: of the GPU's memory where it has one, else of the machine's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def machine_words(measured: Mapping[str, float]) -> str:
    """What a line of progress adds: ``, 12.3 GiB, MFU 41%`` of a point of `Speed`; MFU where it is known."""
    utilized = f", MFU {measured['mfu']:.0%}" if "mfu" in measured else ""
    return f", {measured['peak_memory_gib']:.1f} GiB{utilized}"


@dataclass
class Speed:
    """What this attempt has done, step by step. ``half``: whether it computes in 16 bits.

    ``tokens`` and ``flops`` are the attempt's own, also of steps that a rollback undid, never of an earlier
    attempt's: summed over all attempts they are what the result has cost.
    """

    flops_per_token: int | None
    processes: int
    half: bool
    tokens: int = 0
    _told: float = field(default_factory=time.monotonic)
    _history: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def flops(self) -> float | None:
        """Operations done so far by all processes."""
        return None if self.flops_per_token is None else float(self.tokens * self.flops_per_token)

    def begin(self) -> None:
        """Training begins: loading and compiling before do not count."""
        self._history = deque([(time.monotonic(), self.tokens)])

    def step(self, tokens: int, left: int) -> dict[str, float]:
        """Count a step of `tokens`, with `left` still to do; a measured point once a second, else nothing."""
        self.tokens += tokens
        now = time.monotonic()
        self._history.append((now, self.tokens))
        while len(self._history) > 2 and now - self._history[0][0] > _WINDOW:
            self._history.popleft()
        if now - self._told < _EVERY:
            return {}
        self._told = now
        began, before = self._history[0]
        rate = (self.tokens - before) / (now - began)
        point = {
            "tokens_per_second": rate,
            "peak_memory_gib": peak_memory() / 2**30,
            "seconds_left": left / rate,
        }
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
        peak = peak_flops(device, self.half)
        if peak and self.flops_per_token:
            point["mfu"] = utilization(rate, self.flops_per_token, self.processes, peak)
        return point
