"""Memory of training that is shared out over processes: what `codellm_dag.scaling.memory` predicts beside
what each of two processes of our own backends takes.

    python bench/memory_sharded.py [--only STRATEGY …]   # a table, and memory_sharded.json with versions

As in ``memory.py``: a tiny model first, so that what a process holds once is in the baseline, then the case,
three steps. Measured is the peak of resident memory from the first forward pass on, the larger of the ranks';
glibc gives blocks back at once, so it is that of live tensors. Needs DeepSpeed for its stages.

Linux only (/proc). Not covered: offload (on CPUs host and device are the same memory), GPUs.
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
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from memory import CASES, RETURNS_AT_ONCE, Case, RandomRows, Silent, architecture, status

PROCESSES = 2
BACKENDS: dict[str, dict[str, Any]] = {
    "ddp": {"name": "trainer"},
    **{f"zero{stage}": {"name": "deepspeed", "zero_stage": stage} for stage in (1, 2, 3)},
    "fsdp": {"name": "fsdp2"},
}
CHOSEN = [replace(case, optimizer="adamw") for case in CASES if case.name in ("states", "few targets")]


def train(case: Case, backend: dict[str, Any]) -> None:
    """Train a case in this process, one of a group."""
    from codellm_dag.recipes import Runtime
    from codellm_dag.recipes.training import PretrainingRecipe
    from codellm_dag.training.backends import protocol
    from codellm_dag.training.model import new_model
    from codellm_dag.training.plan import Plan

    shape = {
        "hidden_size": case.hidden,
        "layers": case.layers,
        "heads": case.heads,
        "kv_heads": case.kv_heads,
        "intermediate_size": case.intermediate,
        "tie_embeddings": case.tied,
        "maximum_positions": case.length,
    }
    rows = {"global_rows": case.micro_rows * case.accumulation * PROCESSES}
    recipe = PretrainingRecipe.parse({"backend": backend, "model": shape, "batch": rows})
    with tempfile.TemporaryDirectory() as folder:
        job = protocol.TrainingJob(
            recipe=recipe,
            build=lambda: new_model(recipe.model, case.vocabulary, 0, 0),
            tokenizer=Path(folder),
            rows=RandomRows(case.length, case.vocabulary, case.learnt),
            messages=[],
            plan=Plan(recipe.optimizer, recipe.batch, 3, 0, "bench", case.micro_rows),
            processes=PROCESSES,
            work=Path(folder),
            resume=Path(folder),
        )
        report: Any = Silent(Path(folder), Runtime(threads=1))
        protocol.run(job, Path(folder), report)


def rank(number: int, port: int, case: Case, backend: dict[str, Any], found: Any) -> None:
    """One process: put the bytes of its peak over the baseline into `found`."""
    names = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": PROCESSES, "LOCAL_WORLD_SIZE": PROCESSES}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "bench"}
    os.environ.update({name: str(value) for name, value in (names | where).items()})
    import torch

    from codellm_dag.training.run import PackedTrainer

    torch.set_num_threads(1)
    train(Case("first", 32, 2, 2, 1, 64, 128, 32, 2), backend)
    baseline, peak, step = forget_peak(), [], PackedTrainer.training_step

    def first_forgets(self: Any, *given: Any, **named: Any) -> Any:
        if not peak:  # what building and sharding the model took is no part of a step
            peak.append(forget_peak())
        result = step(self, *given, **named)
        peak.append(status("VmHWM"))
        return result

    PackedTrainer.training_step = first_forgets
    train(case, backend)
    found.put(max(peak) - baseline)


def forget_peak() -> int:
    """Make the high-water mark what is resident now, and return it."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def measured(case: Case, strategy: str) -> int:
    """The larger peak of the processes."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(RETURNS_AT_ONCE)
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = (port, case, BACKENDS[strategy], found)
    processes = [context.Process(target=rank, args=(number, *given)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    return max(found.get(timeout=5) for _ in processes)


def predicted(case: Case, strategy: str) -> int:
    """Bytes of live tensors that the library predicts for one process."""
    from codellm_dag.scaling.memory import Work, data_parallel_memory

    work = Work(architecture(case), case.length, case.micro_rows, case.accumulation, case.learnt)
    return data_parallel_memory(strategy, work, PROCESSES).total


def main() -> None:
    """The chosen cases with each strategy."""
    parser = argparse.ArgumentParser(description="Memory of sharded training, predicted and measured.")
    parser.add_argument("--only", nargs="*", choices=tuple(BACKENDS), default=tuple(BACKENDS))
    rows = []
    for strategy in parser.parse_args().only:
        for case in CHOSEN:
            guess, found = predicted(case, strategy), measured(case, strategy)
            ratio = round(guess / found, 3)
            rows.append(
                {
                    "strategy": strategy,
                    "case": case.name,
                    "predicted": guess,
                    "measured": found,
                    "ratio": ratio,
                }
            )
            told = f"predicted {guess / 1e6:5.0f} MB  measured {found / 1e6:5.0f} MB  ratio {ratio:.3f}"
            print(f"{strategy:6} {case.name:12} {told}", flush=True)
    versions = {name: version(name) for name in ("torch", "transformers", "accelerate", "deepspeed")}
    facts = {"python": platform.python_version(), "processes": PROCESSES, **versions}
    text = json.dumps({"versions": facts, "cases": rows}, indent=1) + "\n"
    Path(__file__).with_suffix(".json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
