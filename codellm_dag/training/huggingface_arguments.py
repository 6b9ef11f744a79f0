"""A job as arguments of Hugging Face's `TrainingArguments`, which LLaMA-Factory and MS-Swift extend."""

from __future__ import annotations

import math
from typing import Any

from codellm_dag.training.backends.protocol import TrainingJob
from codellm_dag.training.expressing import half_flag

SCHEDULES = {"cosine": True, "linear": False, "warmup_stable_decay": True, "constant": True}
"""Our schedules that transformers has too, and whether their final learning rate can be chosen."""


def training_arguments(job: TrainingJob) -> dict[str, Any]:
    """Optimizer, schedule, batch, precision and logging. Warm-up starts at 0 there, at its first part here.

    In a group accelerate chooses nccl or gloo; its parser takes no ``ddp_backend`` outside of a group. Raises
    InvalidRecipeError for a precision that this machine has not: on CPUs accelerate passes fp16 by.
    """
    import torch

    from codellm_dag.training.compute import check_compute

    check_compute(job.plan.compute)
    optimizer = job.plan.optimizer
    schedule, options = _schedule(job)
    return {
        "max_steps": job.plan.steps,
        "per_device_train_batch_size": job.micro_rows,
        "gradient_accumulation_steps": job.accumulation,
        "optim": "adamw_torch",
        "learning_rate": optimizer.learning_rate,
        "lr_scheduler_type": schedule,
        **({"lr_scheduler_kwargs": options} if options else {}),
        "warmup_steps": _warmup_steps(job),
        "weight_decay": optimizer.weight_decay,
        "adam_beta1": optimizer.beta1,
        "adam_beta2": optimizer.beta2,
        "adam_epsilon": optimizer.epsilon,
        "max_grad_norm": optimizer.gradient_clip,
        "seed": job.plan.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        **half_flag(job.plan.compute.precision),
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_num_workers": 0,
    }


def _warmup_steps(job: TrainingJob) -> int:
    return math.ceil(job.plan.optimizer.warmup_fraction * job.plan.steps)


def _schedule(job: TrainingJob) -> tuple[str, dict[str, Any]]:
    """transformers' name of the schedule and its options."""
    optimizer = job.plan.optimizer
    if optimizer.schedule == "cosine":
        return "cosine_with_min_lr", {"min_lr_rate": optimizer.final_fraction}
    if optimizer.schedule == "linear":
        return "linear", {}
    if optimizer.schedule == "constant":
        return "constant_with_warmup", {}
    left = job.plan.steps - _warmup_steps(job)
    decay = max(1, round(optimizer.decay_fraction * left))
    return "warmup_stable_decay", {
        "num_decay_steps": decay,
        "num_stable_steps": left - decay,
        "decay_type": "linear",
        "min_lr_ratio": optimizer.final_fraction,
    }
