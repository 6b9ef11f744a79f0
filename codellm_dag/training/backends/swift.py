"""MS-Swift in its transformers mode: supervised fine-tuning of all weights, in an environment of its own.

It trains with templates of its own only; the conversations are given to its ``chatml``, so a tokenizer whose
chat template writes anything else is refused. Packing needs FlashAttention, which its environment has not: a
step has as many conversations as our rows hold on average, unpacked. For its Megatron mode see
`megatron_swift.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codellm_dag.recipes.training import SftRecipe
from codellm_dag.stages.protocol import Report
from codellm_dag.training.backends.protocol import Finished, Rendered, TrainingJob, TrainingRecipe
from codellm_dag.training.environments.framework import FrameworkEnvironment
from codellm_dag.training.expressing import SFT_FIELDS, refuse_all_but, refuse_kind, refuse_schedules
from codellm_dag.training.huggingface_arguments import SCHEDULES, training_arguments
from codellm_dag.training.swift_arguments import CONFIG, parser, shared_arguments, shared_files

ENVIRONMENT = FrameworkEnvironment.listed(Path(__file__).with_name("swift.txt"))
_PARSE = parser("swift.arguments:SftArguments")


def version() -> str:
    """MS-Swift's version. Raises MissingEnvironmentError."""
    return ENVIRONMENT.required_version()


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Pretraining, replayed rows, Muon, a linear schedule that does not end at 0, fields of later recipes."""
    if lines := refuse_kind(recipe, SftRecipe):
        return lines
    return refuse_all_but(recipe, SFT_FIELDS) + refuse_schedules(recipe, SCHEDULES)


def render(job: TrainingJob) -> Rendered:
    """Its JSON, the conversations, and the model's configuration, which its parser reads."""
    from codellm_dag.training.outside import conversations_per_row

    files = shared_files(job)
    arguments = training_arguments(job)
    arguments["per_device_train_batch_size"] *= conversations_per_row(job)
    recomputes = job.plan.compute.gradient_checkpointing
    config = {
        **shared_arguments(job, json.loads(files["model/config.json"])),
        "attn_impl": "sdpa",
        "gradient_checkpointing": recomputes,
        **({"gradient_checkpointing_kwargs": {"use_reentrant": False}} if recomputes else {}),
        "fp16": False,  # without these two float32 weights are trained in float16 on a GPU
        "bf16": False,
        **arguments,
        "report_to": ["none"],
        "save_strategy": "steps",
        "save_steps": job.plan.steps,
        "save_only_model": True,
        "data_seed": job.plan.seed,
    }
    files[CONFIG] = json.dumps(config, indent=1)
    return Rendered(files, ("-m", "swift.cli.main", "sft", CONFIG), {"MODELSCOPE_OFFLINE": "1"})


def validate(rendered: Rendered) -> None:
    """By `swift.arguments.SftArguments`. Raises InvalidRecipeError, also for changed values."""
    from codellm_dag.training.outside import understood_as_written

    understood_as_written(ENVIRONMENT, rendered, _PARSE)


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Run it; losses come from its ``logging.jsonl``."""
    from codellm_dag.training.outside import run_framework

    result = f"out/checkpoint-{job.plan.steps}"
    return run_framework(ENVIRONMENT, job, rendered, report, "out/logging.jsonl", _point, result)


def _point(entry: Mapping[str, Any]) -> tuple[int, dict[str, float]] | None:
    if "loss" not in entry:
        return None
    step = int(entry["global_step/max_steps"].partition("/")[0])
    return step, {name: float(entry[name]) for name in ("loss", "learning_rate", "grad_norm")}
