"""Megatron-Core: pretraining with tensor, pipeline and context parallelism. Validated, not run here.

``megatron.json`` holds arguments of Megatron-Core's own configuration classes, which `validate` builds;
``arguments.txt`` the same as options of Megatron-LM's ``pretrain_gpt.py``. That program is no package and
reads another form of shards, so there is nothing that `train` could start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

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
    TORCH_TYPES,
    half_flag,
    refuse_all_but,
    refuse_kind,
)
from codellm_dag.training.megatron_divides import indivisible

ENVIRONMENT = FrameworkEnvironment.listed(Path(__file__).with_name("megatron.txt"))
CONFIG, ARGUMENTS = "megatron.json", "arguments.txt"
_PARSE = f"""
import json
from types import SimpleNamespace
import torch
from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig
from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler
from megatron.core.transformer import TransformerConfig
given = json.load(open("{CONFIG}"))
sizes = given["transformer"]
for part in (sizes, given["optimizer"]):
    for name in part.keys() & {{"params_dtype", "pipeline_dtype"}}:
        part[name] = getattr(torch, part[name])
TransformerConfig(**sizes, activation_func=torch.nn.functional.silu)
OptimizerConfig(**given["optimizer"])
DistributedDataParallelConfig(**given["data_parallel"])
rates = SimpleNamespace(param_groups=[dict(lr=0.0, weight_decay=0.0)])
scheduler = OptimizerParamScheduler(rates, **given["schedule"])
found = []
for step in range(given["schedule"]["lr_decay_steps"]):
    found.append(rates.param_groups[0]["lr"])
    scheduler.step(1)
print("\\n" + json.dumps(found))
"""


def version() -> NoReturn:
    """Megatron-Core's version. Raises BackendUnavailableError: it cannot train here."""
    raise BackendUnavailableError(
        f"backend.name = megatron: megatron-core {ENVIRONMENT.version} has no training program; its "
        "configuration is rendered and validated only. Allowed for training: trainer, deepspeed, fsdp2"
    )


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Fine-tuning, Muon, sizes that the parallel degrees do not divide, fields of later recipes."""
    if lines := refuse_kind(recipe, PretrainingRecipe):
        return lines
    assert isinstance(recipe, PretrainingRecipe)
    return refuse_all_but(recipe, PRETRAINING_FIELDS) + indivisible(recipe)


def render(job: TrainingJob) -> Rendered:
    """Arguments of its classes, and of Megatron-LM's program."""
    from codellm_dag.training import megatron_sizes as sizes

    sizes.check_job(job)
    assert isinstance(job.recipe, PretrainingRecipe)
    model, options = job.recipe.model, sizes.command_line(job)
    wsd = sizes.schedule(job)
    options |= {
        "group-query-attention": True,
        "num-query-groups": model.kv_heads,
        "normalization": "RMSNorm",
        "position-embedding-type": "rope",
        "rotary-base": int(model.rope_theta),
        "context-parallel-size": job.backend.context_parallel,
        "transformer-impl": "local",
        **({"sequence-parallel": True} if job.backend.tensor_parallel > 1 else {}),
        **({"accumulate-allreduce-grads-in-fp32": True} if half_flag(job.plan.compute.precision) else {}),
    }
    if "wsd_decay_steps" in wsd:
        options |= {"lr-wsd-decay-style": "linear", "lr-wsd-decay-iters": wsd["wsd_decay_steps"]}
    config = {
        "transformer": sizes.transformer(job),
        "optimizer": _optimizer(job),
        "schedule": wsd,
        "data_parallel": {"use_distributed_optimizer": False, "grad_reduce_in_fp32": True},
    }
    return Rendered({CONFIG: json.dumps(config, indent=1), ARGUMENTS: sizes.as_words(options)})


def _optimizer(job: TrainingJob) -> dict[str, Any]:
    optimizer, precision = job.plan.optimizer, job.plan.compute.precision
    half = half_flag(precision)
    return {
        "optimizer": "adam",
        "lr": optimizer.learning_rate,
        "min_lr": optimizer.learning_rate * optimizer.final_fraction,
        "weight_decay": optimizer.weight_decay,
        "decoupled_weight_decay": True,
        "adam_beta1": optimizer.beta1,
        "adam_beta2": optimizer.beta2,
        "adam_eps": optimizer.epsilon,
        "clip_grad": optimizer.gradient_clip,
        **({"params_dtype": TORCH_TYPES[precision]} | half if half else {}),
    }


def validate(rendered: Rendered) -> None:
    """Build its configuration classes. Raises InvalidRecipeError with its words."""
    learning_rates(rendered)


def learning_rates(rendered: Rendered) -> list[float]:
    """The learning rate of every step by Megatron-Core's own scheduler; builds all its classes."""
    from codellm_dag.training.outside import parse_with

    return parse_with(ENVIRONMENT, rendered, _PARSE)


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Raises BackendUnavailableError, as `version` does."""
    del job, rendered, report
    version()
