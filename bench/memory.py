"""Memory of training: what `codellm_dag.scaling.memory` predicts beside what real runs here take.

    python bench/memory.py                  # table of all cases, and bench/memory.json with versions

Each case is a process of its own. It trains a tiny model for two steps first, so that what a process holds
once (libraries, thread pools, buffers of BLAS) is in the baseline; then it resets the kernel's high-water
mark and trains the case for three steps. Measured is the peak of resident memory over that baseline.

Linux only (/proc). Not covered: GPUs, whose caching allocator rounds otherwise.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from codellm_dag.training.architecture import Architecture
from codellm_dag.training.rows import TrainingRow

STEPS = 3
RETURNS_AT_ONCE = 500_000
"""Bytes from which glibc maps a block of its own, which it gives back when the block is freed."""


@dataclass(frozen=True)
class Case:
    """One shape and batch. ``micro_rows`` rows of ``length`` tokens are one forward pass."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int
    length: int
    micro_rows: int
    accumulation: int = 1
    optimizer: Literal["adamw", "muon"] = "adamw"
    tied: bool = True
    learnt: float = 1.0


CASES = (
    Case("states", 512, 8, 8, 8, 1536, 8192, 64, 2),
    Case("states, Muon", 512, 8, 8, 8, 1536, 8192, 64, 2, optimizer="muon"),
    Case("untied, accumulated", 384, 6, 6, 2, 1024, 16_384, 128, 4, accumulation=2, tied=False),
    Case("activations", 192, 6, 6, 6, 512, 1024, 512, 16),
    Case("long rows", 192, 4, 3, 1, 512, 1024, 2048, 2),
    Case("large vocabulary", 128, 2, 2, 2, 384, 32_768, 256, 8),
    Case("few targets", 256, 4, 4, 4, 768, 32_768, 512, 8, learnt=0.1),
    Case("the laptop's", 128, 4, 2, 2, 384, 2048, 256, 16, optimizer="muon"),
)


class RandomRows:
    """Rows of random tokens in one piece; a share ``learnt`` of them are targets."""

    def __init__(self, length: int, vocabulary: int, learnt: float) -> None:
        self.sequence_length = length
        self.vocabulary, self.learnt = vocabulary, learnt

    def __len__(self) -> int:
        return 1000

    def row(self, number: int) -> TrainingRow:
        draw = np.random.Generator(np.random.Philox(number))
        tokens = draw.integers(0, self.vocabulary, self.sequence_length)
        targets = np.where(np.arange(self.sequence_length) < self.learnt * self.sequence_length, tokens, -100)
        return TrainingRow(tokens, np.arange(self.sequence_length), targets)


def train_case(case: Case) -> None:
    """Train one case in this process."""
    from codellm_dag.recipes import Runtime
    from codellm_dag.recipes.training import Batch, ModelShape, Optimizer
    from codellm_dag.training.model import new_model
    from codellm_dag.training.plan import Plan
    from codellm_dag.training.run import train

    shape = ModelShape(
        hidden_size=case.hidden,
        layers=case.layers,
        heads=case.heads,
        kv_heads=case.kv_heads,
        intermediate_size=case.intermediate,
        tie_embeddings=case.tied,
        maximum_positions=case.length,
    )
    batch = Batch(global_rows=case.micro_rows * case.accumulation)
    with tempfile.TemporaryDirectory() as folder:
        optimizer = Optimizer.parse({"name": case.optimizer})
        plan = Plan(optimizer, batch, STEPS, 0, "bench", case.micro_rows)
        model = new_model(shape, case.vocabulary, 0, 0)
        rows = RandomRows(case.length, case.vocabulary, case.learnt)
        report: Any = Silent(Path(folder), Runtime(threads=2))
        train(model, rows, plan, report)


class Silent:
    """A report that keeps nothing."""

    def __init__(self, resume_dir: Path, runtime: object) -> None:
        self.resume_dir, self.runtime = resume_dir, runtime

    def stop_requested(self) -> bool:
        return False

    def progress(self, *_: object, **__: object) -> None: ...

    log = metric = point = table = work = progress


def measure(case: Case) -> int:
    """Bytes of peak memory over the baseline, in this process."""
    import torch

    torch.set_num_threads(2)
    train_case(Case("first", 32, 2, 2, 1, 64, 128, 32, 2, optimizer=case.optimizer))
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark becomes what is resident now
    baseline = status("VmRSS")
    train_case(case)
    return status("VmHWM") - baseline


def status(name: str) -> int:
    """A field of this process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def architecture(case: Case) -> Architecture:
    """The case's model."""
    return Architecture(
        vocabulary=case.vocabulary,
        hidden=case.hidden,
        layers=case.layers,
        heads=case.heads,
        kv_heads=case.kv_heads,
        head_size=case.hidden // case.heads,
        intermediate=case.intermediate,
        tied=case.tied,
    )


def predict(case: Case) -> tuple[int, int]:
    """Bytes of live tensors that the library predicts, and of resident memory."""
    from codellm_dag.scaling.allocator import resident_bytes
    from codellm_dag.scaling.memory import Work, data_parallel_memory

    model = architecture(case)
    work = Work(
        model,
        case.length,
        case.micro_rows,
        case.accumulation,
        case.learnt,
        case.optimizer,
    )
    memory = data_parallel_memory("ddp", work, 1)
    return memory.total, resident_bytes(memory, work)


def measured_apart(case: Case, threshold: int | None = None) -> int:
    """What `measure` finds in a process of its own; `threshold` is glibc's MALLOC_MMAP_THRESHOLD_."""
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    if threshold is not None:
        environment["MALLOC_MMAP_THRESHOLD_"] = str(threshold)
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(asdict(case))],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.splitlines()[-1])


def main() -> None:
    """All cases, as a table and as bench/memory.json."""
    rows = []
    for case in CASES:
        tensors, predicted = predict(case)
        found, exact = measured_apart(case), measured_apart(case, RETURNS_AT_ONCE)
        rows.append(
            {
                **asdict(case),
                "predicted": predicted,
                "measured": found,
                "ratio": round(predicted / found, 3),
                "predicted_tensors": tensors,
                "measured_without_gaps": exact,
                "ratio_without_gaps": round(tensors / exact, 3),
            }
        )
        print(
            f"{case.name:22} predicted {predicted / 1e6:7.0f} MB  measured {found / 1e6:7.0f} MB  ratio "
            f"{predicted / found:.3f}   without gaps {tensors / 1e6:7.0f} / {exact / 1e6:7.0f}: "
            f"{tensors / exact:.3f}"
        )
    versions = {name: version(name) for name in ("torch", "transformers", "accelerate", "numpy")}
    facts = {"python": platform.python_version(), "libc": " ".join(platform.libc_ver()), **versions}
    text = json.dumps({"versions": facts, "cases": rows}, indent=1) + "\n"
    Path(__file__).with_suffix(".json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", type=json.loads, help="measure this one, as JSON, in this process")
    given = parser.parse_args().case
    if given:
        print(measure(Case(**given)))
    else:
        main()
