"""Megatron-DeepSpeed: pretraining with tensor and pipeline parallelism and ZeRO. Validated, not run here.

``arguments.txt`` holds options of its ``pretrain_gpt.py``, ``deepspeed.json`` DeepSpeed's configuration. The
program is a repository, no package, and reads another form of shards, so there is nothing that `train` could
start. Its parser is not installable either: `validate` builds Megatron-Core's classes of the same sizes.
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
    refuse_all_but,
    refuse_kind,
    refuse_schedules,
)
from codellm_dag.training.megatron_divides import indivisible

ENVIRONMENT = FrameworkEnvironment.listed(Path(__file__).with_name("megatron.txt"))
SIZES, ARGUMENTS, DEEPSPEED = "sizes.json", "arguments.txt", "deepspeed.json"
_PARSE = f"""
import json
import torch
from megatron.core.transformer import TransformerConfig
sizes = json.load(open("{SIZES}"))
for name in ("params_dtype", "pipeline_dtype"):
    sizes[name] = getattr(torch, sizes[name])
TransformerConfig(**sizes, activation_func=torch.nn.functional.silu)
print("\\nnull")
"""


def version() -> NoReturn:
    """Its version. Raises BackendUnavailableError: it cannot train here."""
    raise BackendUnavailableError(
        "backend.name = megatron_deepspeed: Megatron-DeepSpeed is no package; its configuration is rendered "
        "and validated only. Allowed for training: trainer, deepspeed, fsdp2"
    )


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Fine-tuning, Muon, a plateau schedule, sizes that do not divide, ZeRO-2 and 3 with a pipeline."""
    if lines := refuse_kind(recipe, PretrainingRecipe):
        return lines
    assert isinstance(recipe, PretrainingRecipe)
    lines = refuse_all_but(recipe, PRETRAINING_FIELDS) + indivisible(recipe)
    lines += refuse_schedules(recipe, {"cosine": True, "linear": True, "constant": True})
    backend = recipe.backend
    if backend.zero_stage > 1 and backend.pipeline_parallel > 1:
        lines.append(
            f"backend.zero_stage = {backend.zero_stage}: DeepSpeed's pipelines keep whole gradients; allowed "
            f"with backend.pipeline_parallel = {backend.pipeline_parallel}: 0, 1"
        )
    return lines


def render(job: TrainingJob) -> Rendered:
    """Options of its program, DeepSpeed's configuration, and the sizes for `validate`."""
    from codellm_dag.training import megatron_sizes as sizes

    sizes.check_job(job)
    assert isinstance(job.recipe, PretrainingRecipe)
    backend = job.backend
    options = sizes.command_line(job) | {
        "num-key-value-heads": job.recipe.model.kv_heads,
        "normalization": "rmsnorm",
        "use-rotary-position-embeddings": True,
        "rope-theta": int(job.recipe.model.rope_theta),
        "deepspeed": True,
        "deepspeed_config": DEEPSPEED,
        "zero-stage": backend.zero_stage,
        **({"cpu-optimizer": True} if backend.offload else {}),
        **({"no-pipeline-parallel": True} if backend.pipeline_parallel == 1 else {}),
        **({"deepspeed-activation-checkpointing": True} if sizes.recomputation(job) else {}),
    }
    return Rendered(
        {
            ARGUMENTS: sizes.as_words(options),
            DEEPSPEED: json.dumps(_deepspeed(job), indent=1),
            SIZES: json.dumps(sizes.transformer(job), indent=1),
        }
    )


def _deepspeed(job: TrainingJob) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": job.backend.zero_stage}
    if job.backend.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    return {
        "train_batch_size": job.plan.batch.global_rows,
        "train_micro_batch_size_per_gpu": job.micro_rows,
        "gradient_clipping": job.plan.optimizer.gradient_clip,
        "zero_optimization": zero,
        "bf16": {"enabled": job.plan.compute.precision == "bf16"},
        "fp16": {"enabled": job.plan.compute.precision == "fp16"},
    }


def validate(rendered: Rendered) -> None:
    """Build Megatron-Core's `TransformerConfig` of these sizes. Raises InvalidRecipeError."""
    from codellm_dag.training.outside import parse_with

    parse_with(ENVIRONMENT, rendered, _PARSE)


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Raises BackendUnavailableError, as `version` does."""
    del job, rendered, report
    version()
