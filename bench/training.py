"""Training beside a bare `Trainer` script: tokens per CPU-second, start-up, packing, and growth of step time.

``python bench/training.py [--rounds R] [--steps S] [--growth-steps G] [--only NAME …]``. Every run is a
process of its own, runs of the two sides alternate, figures are medians, times are CPU-seconds of that
process (a busy machine moves them less than wall-clock). On real text: modules and functions of the standard
library. `--json` prints one object for a report.

- `stage`: the whole stage `pretrained_checkpoint` against `Trainer` with transformers' own model, loss, AdamW
  and collator on the same rows, steps and batch; from the second step's end to the last step's.
- `start`: CPU-seconds from the process' start to the end of the first step, of the same runs.
- `packing`: examples packed into rows by our trainer against `Trainer` with one example a row, padded to the
  batch's longest; tokens of examples per CPU-second.
- `growth`: CPU time of the last tenth of steps over that of the first tenth, as medians.

Not covered: GPUs.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.metadata
import inspect
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHAPE: dict[str, Any] = {"hidden_size": 256, "layers": 4, "heads": 4, "kv_heads": 4, "intermediate_size": 688}
TINY: dict[str, Any] = {"hidden_size": 16, "layers": 1, "heads": 2, "kv_heads": 2, "intermediate_size": 32}
VOCABULARY, ROW, BATCH, LONGEST = 2048, 256, 8, 512
MODULES = (argparse, ast, inspect, textwrap, json, tempfile, subprocess, statistics, platform)


class Clock:
    """The report of a run that only notes CPU time at the end of each step."""

    def __init__(self, resume_dir: Path) -> None:
        from codellm_dag.recipes import Runtime

        self.runtime, self.resume_dir, self.ends = Runtime(threads=1, workers=1), resume_dir, []

    def stop_requested(self) -> bool:
        return False

    def point(self, step: int, **values: float) -> None:
        del step
        if "loss" in values:
            self.ends.append(time.process_time())

    def __getattr__(self, name: str) -> Any:
        if name in ("progress", "metric", "table", "log", "work"):
            return lambda *_, **__: None
        raise AttributeError(name)


def prepare(folder: Path) -> None:
    """Write a corpus of standard library modules, a tokenizer, shards, and the token ids of functions."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from codellm_dag.recipes.tokens import ShardsRecipe, TokenizerRecipe
    from codellm_dag.tokens import token_shards, tokenizer

    texts = [inspect.getsource(module) for module in MODULES]
    rows = [
        {"document_id": hashlib.sha256(text.encode()).hexdigest(), "text": text, "language": "python"}
        for text in texts
    ]
    for name in ("corpus", "tokenizer", "shards", "resume"):
        (folder / name).mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "corpus/train.parquet")
    report: Any = Clock(folder / "resume")
    slots = inputs_of(folder, "corpus", "tokenizer")
    tokenizer.run(TokenizerRecipe(vocabulary_size=VOCABULARY), slots, folder / "tokenizer", report)
    shards = ShardsRecipe(language="python", sequence_length=ROW)
    token_shards.run(shards, slots, folder / "shards", report)
    vocabulary = tokenizer.load(folder / "tokenizer")
    functions = [
        ast.get_source_segment(text, node) or ""
        for text in texts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    ]
    ids = [vocabulary.encode(text).ids for text in functions]
    (folder / "examples.json").write_text(json.dumps([one for one in ids if 2 <= len(one) <= LONGEST]))


def inputs_of(folder: Path, *names: str) -> Any:
    """Folders as a stage's inputs."""
    from codellm_dag.stages.protocol import Inputs, LocalArtifact

    slots = {"shards": "shards/python"}
    return Inputs({slots.get(n, n): LocalArtifact("", n, n, n, folder / n) for n in names})


def whole_stage(folder: Path, steps: int, scratch: Path) -> list[float]:
    """CPU seconds at which each step of the stage ended."""
    from codellm_dag.recipes.training import PretrainingRecipe
    from codellm_dag.training import pretrained_checkpoint

    recipe = PretrainingRecipe.parse(
        {"model": SHAPE, "batch": {"global_rows": BATCH}, "tokens": steps * BATCH * ROW}
    )
    report: Any = Clock(scratch / "resume")
    pretrained_checkpoint.run(recipe, inputs_of(folder, "tokenizer", "shards"), scratch / "out", report)
    return report.ends


def bare_trainer(examples: Any, steps: int, scratch: Path, positions: int) -> list[float]:
    """The same of a plain `Trainer` on lists of token ids, padded to the longest of a batch."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    from codellm_dag.recipes.training import ModelShape

    torch.set_num_threads(1)
    shape, ends = ModelShape(**SHAPE), []
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
    )

    class Ends(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            if "loss" in state.log_history[-1]:  # the last entry sums the run up and is no step
                ends.append(time.process_time())

    def collate(batch: list[Any]) -> dict[str, torch.Tensor]:
        longest = max(len(ids) for ids in batch)
        ids = torch.tensor([one + [0] * (longest - len(one)) for one in batch])
        real = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in batch])
        return {"input_ids": ids, "attention_mask": real, "labels": ids.masked_fill(real == 0, -100)}

    arguments = TrainingArguments(
        output_dir=str(scratch / "out"),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=3e-3,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=True,
        seed=0,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    Trainer(model, arguments, data_collator=collate, train_dataset=examples, callbacks=[Ends()]).train()
    model.save_pretrained(scratch / "out")
    return ends


def ours(rows: Any, shape: dict[str, Any], global_rows: int, steps: int, scratch: Path) -> list[float]:
    """The same of our trainer on `rows`."""
    import torch

    from codellm_dag.recipes.training import Batch, ModelShape, Optimizer
    from codellm_dag.training.model import new_model
    from codellm_dag.training.plan import Plan
    from codellm_dag.training.run import train

    torch.set_num_threads(1)
    model = new_model(ModelShape(**shape, maximum_positions=LONGEST), VOCABULARY, 0, 0)
    report: Any = Clock(scratch / "resume")
    batch = Batch(global_rows=global_rows)
    train(model, rows, Plan(Optimizer(), batch, steps, 0, "bench", global_rows), report)
    return report.ends


def one_run(name: str, folder: Path, steps: int) -> dict[str, float]:
    """In a process of its own: the figures of one side."""
    from codellm_dag.training.rows import Example, ExampleRows, ShardRows

    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        for part in ("out", "resume"):
            (scratch / part).mkdir()
        if name == "stage":
            ends, tokens = whole_stage(folder, steps, scratch), BATCH * ROW
        elif name == "bare":
            shard = ShardRows([folder / "shards"])
            rows = [shard.row(number).tokens.tolist() for number in range(len(shard))]
            ends, tokens = bare_trainer(rows, steps, scratch, ROW), BATCH * ROW
        elif name == "growth":
            ends, tokens = ours(ShardRows([folder / "shards"]), TINY, 1, steps, scratch), ROW
        else:
            examples = json.loads((folder / "examples.json").read_text())
            mean = statistics.fmean(map(len, examples))
            if name == "packed":
                rows = ExampleRows([Example(ids, [True] * len(ids)) for ids in examples], LONGEST, 0)
                tokens = sum(map(len, examples)) / len(rows) * BATCH
                ends = ours(rows, SHAPE, BATCH, steps, scratch)
            else:
                tokens, ends = mean * BATCH, bare_trainer(examples, steps, scratch, LONGEST)
    each = [after - before for before, after in itertools.pairwise(ends)]
    tenth = max(1, len(each) // 10)
    skipped = min(50, len(each) // 10)
    return {
        "start": ends[0],
        "tokens_per_cpu_second": tokens * (len(ends) - 2) / (ends[-1] - ends[1]),
        "growth": statistics.median(each[-tenth:]) / statistics.median(each[skipped : skipped + tenth]),
        "milliseconds": 1000 * statistics.median(each),
    }


def measured(name: str, folder: Path, steps: int) -> dict[str, float]:
    """`one_run` in another process; ours with the variables that a launcher gives to stages."""
    from codellm_dag.launch.local import stage_environment
    from codellm_dag.recipes import Runtime

    command = [sys.executable, __file__, "--run", name, "--folder", str(folder), "--steps", str(steps)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if name not in ("bare", "unpacked"):
        environment = stage_environment(Runtime(threads=1, workers=1), {})
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Run the comparisons and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--growth-steps", type=int, default=10_000)
    parser.add_argument("--only", nargs="*", choices=("stage", "packing", "growth"), default=None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        print(json.dumps(one_run(asked.run, asked.folder, asked.steps)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        print(json.dumps(results(folder, asked)) if asked.json else text(results(folder, asked)))


def results(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """All figures, as medians over the rounds."""
    only = asked.only or ("stage", "packing", "growth")
    pairs = {"stage": ("stage", "bare"), "packing": ("packed", "unpacked")}
    found: dict[str, Any] = {
        "load": os.getloadavg()[0],
        "cpu_cores": os.cpu_count(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        "python": platform.python_version(),
    }
    for name, sides in pairs.items():
        if name not in only:
            continue
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for number in range(asked.rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                runs[side].append(measured(side, folder, asked.steps))
        speeds = {
            side: statistics.median(run["tokens_per_cpu_second"] for run in listed)
            for side, listed in runs.items()
        }
        found[name] = {**speeds, "ratio": speeds[sides[0]] / speeds[sides[1]]}
        if name == "stage":
            starts = {s: statistics.median(run["start"] for run in listed) for s, listed in runs.items()}
            found["start"] = {**starts, "ratio": starts["stage"] / starts["bare"]}
    if "growth" in only:
        steps = asked.growth_steps
        run = measured("growth", folder, steps)
        found["growth"] = {"steps": steps, "milliseconds": run["milliseconds"], "ratio": run["growth"]}
    return found


def text(found: dict[str, Any]) -> str:
    """One line a figure."""
    lines = [
        f"torch {found['versions']['torch']}, transformers {found['versions']['transformers']}, "
        f"Python {found['python']}, {found['cpu_cores']} cores, load {found['load']:.1f}"
    ]
    for name in ("stage", "start", "packing", "growth"):
        if name in found:
            parts = ", ".join(f"{key} {value:,.3f}" for key, value in found[name].items())
            lines.append(f"{name}: {parts}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
