"""Colossal-AI: pretraining with tensor and pipeline parallelism and ZeRO-1, 2. Validated, not run here.

It is a library around a training loop of one's own: rendered are the arguments of its
`HybridParallelPlugin`, of its optimizer, and of the model's `gradient_checkpointing_enable`, which its own
Llama follows. `validate` builds plugin and booster in a group of processes that is only pretended to be
there. Its ZeRO and pipelines refuse CPUs, so `train` starts nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.stages.protocol import Report
from codellm_dag.training.backends.protocol import (
    BackendUnavailableError,
    Finished,
    Rendered,
    TrainingJob,
    TrainingRecipe,
)
from codellm_dag.training.environments.framework import FrameworkEnvironment
from codellm_dag.training.expressing import (
    PRETRAINING_FIELDS,
    refuse_all_but,
    refuse_kind,
    refuse_precisions,
)
from codellm_dag.training.megatron_divides import indivisible

ENVIRONMENT = FrameworkEnvironment.listed(Path(__file__).with_name("colossalai.txt"))
CONFIG = "colossalai.json"
_PARSE = f"""
import json
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore
given = json.load(open("{CONFIG}"))
dist.init_process_group("fake", rank=0, world_size=given["processes"], store=FakeStore())
from colossalai.booster import Booster
from colossalai.booster.plugin import HybridParallelPlugin
plugin = HybridParallelPlugin(**given["plugin"])
Booster(plugin=plugin)
if "gradient_checkpointing" in given:
    from transformers import LlamaConfig, LlamaForCausalLM
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1))
    model.gradient_checkpointing_enable(**given["gradient_checkpointing"])
    assert model.model.gradient_checkpointing
torch.optim.AdamW([torch.zeros(1, requires_grad=True)], **given["optimizer"])
print("\\n" + json.dumps([plugin.dp_size, plugin.pp_size, plugin.tp_size]))
"""


def version() -> NoReturn:
    """Colossal-AI's version. Raises BackendUnavailableError: it cannot train here."""
    raise BackendUnavailableError(
        f"backend.name = colossalai: Colossal-AI {ENVIRONMENT.version} has no training program; its plugin "
        "is rendered and validated only. Allowed for training: trainer, deepspeed, fsdp2"
    )


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Fine-tuning, Muon, sizes that do not divide, ZeRO-3, ZeRO-2 in a pipeline, ZeRO in float32, fields of
    later recipes.
    """
    if lines := refuse_kind(recipe, PretrainingRecipe):
        return lines
    assert isinstance(recipe, PretrainingRecipe)
    lines = refuse_all_but(recipe, PRETRAINING_FIELDS) + indivisible(recipe)
    backend = recipe.backend
    most = 1 if backend.pipeline_parallel > 1 else 2
    if backend.zero_stage > most:
        lines.append(
            f"backend.zero_stage = {backend.zero_stage}: not in Colossal-AI's hybrid plugin with "
            f"backend.pipeline_parallel = {backend.pipeline_parallel}; allowed: 0 to {most}"
        )
    if backend.zero_stage:
        lines += refuse_precisions(recipe, ("bf16", "fp16"), "has no ZeRO in float32")
    return lines


def render(job: TrainingJob) -> Rendered:
    """Arguments of its plugin and of the optimizer, and the number of processes."""
    from codellm_dag.training.megatron_sizes import check_job

    check_job(job)
    optimizer, backend = job.plan.optimizer, job.backend
    config = {
        "processes": job.processes,
        "plugin": {
            "tp_size": backend.tensor_parallel,
            "pp_size": backend.pipeline_parallel,
            "zero_stage": backend.zero_stage,
            "cpu_offload": backend.offload,
            "precision": job.plan.compute.precision,
            "max_norm": optimizer.gradient_clip,
            **({"microbatch_size": job.micro_rows} if backend.pipeline_parallel > 1 else {}),
        },
        "optimizer": {
            "lr": optimizer.learning_rate,
            "betas": [optimizer.beta1, optimizer.beta2],
            "eps": optimizer.epsilon,
            "weight_decay": optimizer.weight_decay,
        },
    }
    if job.plan.compute.gradient_checkpointing:
        config["gradient_checkpointing"] = {"gradient_checkpointing_kwargs": {"use_reentrant": False}}
    return Rendered({CONFIG: json.dumps(config, indent=1)})


def validate(rendered: Rendered) -> None:
    """Build its plugin and booster. Raises InvalidRecipeError with its words."""
    degrees(rendered)


def degrees(rendered: Rendered) -> list[int]:
    """Copies of the model, pipeline and tensor degree of the plugin that `validate` builds."""
    from codellm_dag.training.outside import parse_with

    return parse_with(ENVIRONMENT, rendered, _PARSE)


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Raises BackendUnavailableError, as `version` does."""
    del job, rendered, report
    version()
