"""DeepSpeed's ZeRO stages 0 to 3 and CPU offload, in this process, through Hugging Face's `Trainer`.

Rows, losses, optimizer, schedule and identity are the trainer's own; DeepSpeed shards, sums, clips and saves.
Needs the extra ``deepspeed``. The optimizer is PyTorch's AdamW also with offload: DeepSpeed's own is compiled
when it is first used. bf16 is DeepSpeed's section ``torch_autocast``, as in the trainer: weights, summed
gradients, optimizer state and checkpoints are float32.
"""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.stages.protocol import Report
from codellm_dag.training.backends.protocol import (
    BackendUnavailableError,
    Finished,
    Rendered,
    TrainingJob,
    TrainingRecipe,
)
from codellm_dag.training.expressing import refuse_where_sharded

CONFIG = "deepspeed.json"


def version() -> str:
    """DeepSpeed's version."""
    try:
        return importlib.metadata.version("deepspeed")
    except importlib.metadata.PackageNotFoundError:
        raise BackendUnavailableError(
            "backend.name = deepspeed: the package deepspeed is not installed; run: "
            "python scripts/install.py deepspeed"
        ) from None


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Muon, fp16, and compiled blocks."""
    return refuse_where_sharded(recipe, compiles=False)


def render(job: TrainingJob) -> Rendered:
    """DeepSpeed's JSON. Everything that has a default there and changes no result is left to it."""
    return Rendered({CONFIG: json.dumps(configuration(job), indent=1, sort_keys=True) + "\n"})


def configuration(job: TrainingJob) -> dict[str, Any]:
    """The values of DeepSpeed's configuration file.

    Where the batch grows, accumulation is that of the step with most: DeepSpeed only asks whether there is
    any, and is told at each pass whether it is a step's last.
    """
    stage, offload = job.backend.zero_stage, job.backend.offload
    zero: dict[str, Any] = {"stage": stage}
    if offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    if offload and stage == 3:
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_batch_size": job.micro_rows * job.accumulation * job.processes,
        "train_micro_batch_size_per_gpu": job.micro_rows,
        "gradient_accumulation_steps": job.accumulation,
        "gradient_clipping": job.plan.optimizer.gradient_clip,
        "torch_autocast": {
            "enabled": job.plan.compute.precision == "bf16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],  # what travels between processes stays float32
        },
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000_000,
    }


def validate(rendered: Rendered) -> None:
    """Read the file with DeepSpeed's own configuration class, among the processes that will train."""
    from deepspeed.runtime.config import DeepSpeedConfig  # pyright: ignore[reportMissingImports]

    from codellm_dag.training.zero import join_deepspeed

    join_deepspeed()
    try:
        DeepSpeedConfig(json.loads(rendered.files[CONFIG]))
    except (AssertionError, TypeError, ValueError) as error:
        raise InvalidRecipeError(f"DeepSpeed refuses its configuration: {error}") from error


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Train in this process, one of ``job.processes``."""
    from codellm_dag.training.run import train as train_packed
    from codellm_dag.training.zero import ZeroTrainer

    class Sharded(ZeroTrainer):
        build = staticmethod(job.build)

    values = {"deepspeed": json.loads(rendered.files[CONFIG]), "bf16": False}  # its own section says bf16
    return Finished(*train_packed(job.build(), job.rows, job.plan, report, kind=Sharded, **values))
