"""Memory of training that is shared out over processes: what `codellm_dag.scaling.memory` predicts beside
what each process of our own backends takes, one or two of them.

    python bench/memory_sharded.py                   # a table, and memory_sharded.json with versions
    python bench/memory_sharded.py --only STRATEGY … # a table

As in ``memory.py``: a tiny model first, so that what a process holds once is in the baseline, then the case,
three steps. Measured is the peak of resident memory from the first forward pass on, the larger of the ranks';
glibc gives blocks back at once, so it is that of live tensors. Needs DeepSpeed for its stages. On CPUs host
and device are the same memory: with offload it is the sum of the two that is compared.

Linux only (/proc). Not covered: GPUs; how offload divides its bytes between device and host.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import platform
import socket
import tempfile
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from memory import CASES, RETURNS_AT_ONCE, Case, RandomRows, Silent, architecture, status

BACKENDS: dict[str, dict[str, Any]] = {
    "ddp": {"name": "trainer"},
    **{f"zero{stage}": {"name": "deepspeed", "zero_stage": stage} for stage in (1, 2, 3)},
    **{
        f"zero{stage}_offload": {"name": "deepspeed", "zero_stage": stage, "offload": True}
        for stage in (1, 2, 3)
    },
    "fsdp": {"name": "fsdp2"},
}
STATES, TARGETS = (case for case in CASES if case.name in ("states", "few targets"))
ACCUMULATED = replace(STATES, name="states, accumulated", accumulation=2)


@dataclass(frozen=True)
class Run:
    """One case with a strategy (of `BACKENDS`), in ``processes`` of one thread."""

    strategy: str
    case: Case
    processes: int = 2
    precision: str = "fp32"


RUNS = (
    *(Run(strategy, case) for strategy in BACKENDS for case in (STATES, TARGETS)),
    *(Run(strategy, ACCUMULATED) for strategy in BACKENDS if strategy.endswith("offload")),
    *(Run(f"zero{stage}", STATES, processes=1) for stage in (1, 2, 3)),
    *(Run(strategy, STATES, precision="bf16") for strategy in ("ddp", "zero2", "zero3", "fsdp")),
)


def train(run: Run) -> None:
    """Train the case in this process, one of a group."""
    from codellm_dag.recipes import Runtime
    from codellm_dag.recipes.training import PretrainingRecipe
    from codellm_dag.training.backends import protocol
    from codellm_dag.training.model import new_model
    from codellm_dag.training.plan import Plan

    case, backend = run.case, BACKENDS[run.strategy]
    shape = {
        "hidden_size": case.hidden,
        "layers": case.layers,
        "heads": case.heads,
        "kv_heads": case.kv_heads,
        "intermediate_size": case.intermediate,
        "tie_embeddings": case.tied,
        "maximum_positions": case.length,
    }
    compute = {"precision": run.precision}
    rows = {"global_rows": case.micro_rows * case.accumulation * run.processes}
    recipe = PretrainingRecipe.parse({"backend": backend, "model": shape, "batch": rows, "compute": compute})
    with tempfile.TemporaryDirectory() as folder:
        job = protocol.TrainingJob(
            recipe=recipe,
            build=lambda: new_model(recipe.model, case.vocabulary, 0, 0),
            tokenizer=Path(folder),
            rows=RandomRows(case.length, case.vocabulary, case.learnt),
            messages=[],
            plan=Plan(recipe.optimizer, recipe.batch, 3, 0, "bench", case.micro_rows, compute=recipe.compute),
            processes=run.processes,
            work=Path(folder),
            resume=Path(folder),
        )
        report: Any = Silent(Path(folder), Runtime(threads=1))
        protocol.run(job, Path(folder), report)


def rank(number: int, port: int, run: Run, found: Any) -> None:
    """One process: put the bytes of its peak over the baseline into `found`."""
    names = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": run.processes}
    names["LOCAL_WORLD_SIZE"] = run.processes
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "bench"}
    os.environ.update({name: str(value) for name, value in (names | where).items()})
    import torch

    from codellm_dag.training.run import PackedTrainer

    torch.set_num_threads(1)
    train(replace(run, case=Case("first", 32, 2, 2, 1, 64, 128, 32, 2)))
    baseline, peak, step = forget_peak(), [], PackedTrainer.training_step

    def first_forgets(self: Any, *given: Any, **named: Any) -> Any:
        if not peak:  # what building and sharding the model took is no part of a step
            peak.append(forget_peak())
        result = step(self, *given, **named)
        peak.append(status("VmHWM"))
        return result

    PackedTrainer.training_step = first_forgets
    train(run)
    found.put(max(peak) - baseline)


def forget_peak() -> int:
    """Make the high-water mark what is resident now, and return it."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def measured(run: Run) -> int:
    """The larger peak of the processes."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(RETURNS_AT_ONCE)
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = (port, run, found)
    processes = [context.Process(target=rank, args=(number, *given)) for number in range(run.processes)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    assert [process.exitcode for process in processes] == [0] * run.processes
    return max(found.get(timeout=5) for _ in processes)


def predicted(run: Run) -> int:
    """Bytes of live tensors that the library predicts for one process, on the device and on the host."""
    from codellm_dag.scaling.memory import Work, data_parallel_memory

    case = run.case
    sizes = (case.length, case.micro_rows, case.accumulation, case.learnt)
    work = Work(architecture(case), *sizes, precision=run.precision)
    memory = data_parallel_memory(run.strategy, work, run.processes)
    return memory.total + memory.host


def main() -> None:
    """Every run, or those of the chosen strategies."""
    parser = argparse.ArgumentParser(description="Memory of sharded training, predicted and measured.")
    parser.add_argument("--only", nargs="*", choices=tuple(BACKENDS))
    only = parser.parse_args().only
    rows = []
    for run in RUNS:
        if only is not None and run.strategy not in only:
            continue
        guess, found = predicted(run), measured(run)
        # Runs differ by more than a million bytes.
        row = {**asdict(run), "case": run.case.name, "predicted_mb": round(guess / 1e6)}
        rows.append({**row, "measured_mb": round(found / 1e6), "ratio": round(guess / found, 3)})
        told = f"predicted {guess / 1e6:5.0f} MB  measured {found / 1e6:5.0f} MB  ratio {guess / found:.3f}"
        print(f"{run.strategy:13} {run.processes} {run.precision} {run.case.name:19} {told}", flush=True)
    if only is not None:
        return
    versions = {name: version(name) for name in ("torch", "transformers", "accelerate", "deepspeed")}
    facts = {"python": platform.python_version(), **versions}
    text = json.dumps({"versions": facts, "cases": rows}, indent=1) + "\n"
    Path(__file__).with_suffix(".json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
