"""Stage ``framework_checkpoint``: one fine-tuning by one backend, as a point of a comparison.

It is the stage `sft_checkpoint` with a recipe of its own, and two files more: ``curve.json``, who trained and
the loss of every step, and ``_volatile/measured.json``, what this machine took. Each backend's checkpoint is
an artifact of its own, so its manifest says which framework and version made it, a framework that fails
leaves the others' results alone, and another one is added without training those there are again.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any, cast

from codellm_dag.recipes.frameworks import FrameworksRecipe
from codellm_dag.stages.protocol import VOLATILE, Inputs, Report
from codellm_dag.training import sft_checkpoint
from codellm_dag.training.environments.framework import names
from codellm_dag.training.output import write_json
from codellm_dag.training.processes import Processes

DISTRIBUTED = True
CURVE_FILE, MEASURED_FILE = "curve.json", f"{VOLATILE}/measured.json"


def run(recipe: FrameworksRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Fine-tune input ``checkpoint`` on input ``data`` with ``recipe.training.backend``.

    Metrics: those of `sft_checkpoint`, and tokens_per_second, seconds_to_first_step, seconds,
    peak_memory_mib (see `measured`). Raises what `sft_checkpoint` raises.
    """
    clock = Clock(report, resumed=any(report.resume_dir.glob("*")))
    sft_checkpoint.run(recipe.training, inputs, out, cast(Report, clock))
    if not Processes.join().first:
        return
    found = measured(clock, outside=recipe.training.backend.name in names())
    curve = {
        "backend": clock.metrics["backend"],
        "version": clock.metrics["backend_version"],
        "loss": [[step, clock.losses[step]] for step in sorted(clock.losses)],
        "tokens": clock.metrics["tokens"],
    }
    write_json(out / CURVE_FILE, curve)
    write_json(out / MEASURED_FILE, found)
    report.metric(**{name: value for name, value in found.items() if value is not None})


class Clock:
    """A report that passes everything on, and keeps scalars, losses, and when each step ended.

    `resumed`: the attempt goes on from an earlier one, whose steps are told anew all at once.
    """

    def __init__(self, report: Report, resumed: bool = False) -> None:
        self._report, self.resumed = report, resumed
        self.began = time.monotonic()
        self.losses: dict[int, float] = {}
        self.ended: dict[int, float] = {}
        self.metrics: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._report, name)

    def point(self, step: int, **values: float) -> None:
        """Keep a step's loss, and the time."""
        if "loss" in values:
            self.losses[step], self.ended[step] = values["loss"], time.monotonic()
        self._report.point(step, **values)

    def metric(self, **values: float | int | str | bool) -> None:
        """Keep the scalars."""
        self.metrics |= values
        self._report.metric(**values)


def measured(clock: Clock, outside: bool) -> dict[str, float | None]:
    """What the training took on this machine.

    - tokens_per_second: tokens with a loss, from the end of the first step to that of the last; None after a
      resumption and for one step
    - seconds_to_first_step: from the stage's start to the end of the first step: imports, validation,
      loading; None after a resumption
    - seconds: of the whole stage
    - peak_memory_mib: most of the machine's memory that the process which trained held, in MiB: this one, or
      (`outside`) the largest that it started
    """
    now, steps = time.monotonic(), sorted(clock.ended)
    rate = first = None
    if not clock.resumed:
        first = clock.ended[steps[0]] - clock.began
        span = clock.ended[steps[-1]] - clock.ended[steps[0]]
        if span > 0:
            rate = clock.metrics["tokens"] * (len(steps) - 1) / len(steps) / span
    usage = resource.getrusage(resource.RUSAGE_CHILDREN if outside else resource.RUSAGE_SELF)
    return {
        "tokens_per_second": rate,
        "seconds_to_first_step": first,
        "seconds": now - clock.began,
        "peak_memory_mib": usage.ru_maxrss / 1024,
    }
