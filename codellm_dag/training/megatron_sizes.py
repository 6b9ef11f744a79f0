"""A recipe as sizes of Megatron, shared by Megatron-Core and Megatron-DeepSpeed: what divides what."""

from __future__ import annotations

import math
from typing import Any

from codellm_dag.recipes.backends import Backend
from codellm_dag.recipes.training import PretrainingRecipe
from codellm_dag.training.backends.protocol import TrainingJob
from codellm_dag.training.expressing import TORCH_TYPES, half_flag
from codellm_dag.training.rows import InvalidTrainingDataError

VOCABULARY_MULTIPLE = 128
"""Megatron-LM's ``--make-vocab-size-divisible-by``: the embedding is padded to this times tensor_parallel."""


def check_job(job: TrainingJob) -> None:
    """Raise InvalidTrainingDataError unless rows and processes fit the parallel degrees."""
    backend, length = job.backend, job.rows.sequence_length
    parts = 2 * backend.context_parallel if backend.context_parallel > 1 else 1
    if length % (parts * backend.tensor_parallel):
        raise InvalidTrainingDataError(
            f"sequence_length = {length} of the shards: backend.context_parallel = "
            f"{backend.context_parallel} and backend.tensor_parallel = {backend.tensor_parallel} need a "
            f"multiple of {parts * backend.tensor_parallel}"
        )
    group = model_group(backend)
    if job.processes % group:
        raise InvalidTrainingDataError(
            f"{job.processes} processes: backend.tensor_parallel * pipeline_parallel * context_parallel = "
            f"{group} does not divide them; allowed: multiples of {group}"
        )
    experts = backend.expert_parallel * backend.pipeline_parallel
    if job.processes % experts:
        raise InvalidTrainingDataError(
            f"{job.processes} processes: backend.expert_parallel * pipeline_parallel = {experts} does not "
            f"divide them; allowed: multiples of {experts}"
        )
    copies = job.processes // group
    if job.plan.batch.global_rows % (copies * job.micro_rows):
        raise InvalidTrainingDataError(
            f"batch.global_rows = {job.plan.batch.global_rows}: {copies} copies of the model read "
            f"{job.micro_rows} rows each; allowed: multiples of {copies * job.micro_rows}"
        )


def model_group(backend: Backend) -> int:
    """Processes that hold one copy of a model without experts."""
    return backend.tensor_parallel * backend.pipeline_parallel * backend.context_parallel


def transformer(job: TrainingJob) -> dict[str, Any]:
    """Arguments of Megatron-Core's `TransformerConfig`: our Llama."""
    assert isinstance(job.recipe, PretrainingRecipe)
    model, backend, precision = job.recipe.model, job.backend, job.plan.compute.precision
    deviation = model.initializer_range
    return {
        "num_layers": model.layers,
        "hidden_size": model.hidden_size,
        "ffn_hidden_size": model.intermediate_size,
        "num_attention_heads": model.heads,
        "num_query_groups": model.kv_heads,
        "normalization": "RMSNorm",
        "layernorm_epsilon": 1e-6,
        "gated_linear_unit": True,
        "add_bias_linear": False,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "init_method_std": deviation,
        "params_dtype": TORCH_TYPES[precision],
        "pipeline_dtype": TORCH_TYPES[precision],
        **half_flag(precision),
        **recomputation(job),
        "tensor_model_parallel_size": backend.tensor_parallel,
        "pipeline_model_parallel_size": backend.pipeline_parallel,
        "context_parallel_size": backend.context_parallel,
        "expert_model_parallel_size": backend.expert_parallel,
        "sequence_parallel": backend.tensor_parallel > 1,
    }


def recomputation(job: TrainingJob) -> dict[str, Any]:
    """Arguments of Megatron-Core's with which each layer is computed again in the backward pass, or none."""
    if not job.plan.compute.gradient_checkpointing:
        return {}
    return {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}


def seed(job: TrainingJob) -> int:
    """The recipe's seed plus 1: Megatron refuses 0 (``Seed (0) should be a positive integer``)."""
    return job.plan.seed + 1


def padded_vocabulary(job: TrainingJob, entries: int) -> int:
    """Rows of the embedding as Megatron pads them."""
    multiple = VOCABULARY_MULTIPLE * job.backend.tensor_parallel
    return -(-entries // multiple) * multiple


def schedule(job: TrainingJob) -> dict[str, Any]:
    """Arguments of Megatron-Core's `OptimizerParamScheduler`, which counts steps."""
    optimizer, steps = job.plan.optimizer, job.plan.steps
    styles = {"cosine": "cosine", "linear": "linear", "constant": "constant", "warmup_stable_decay": "WSD"}
    warmup = math.ceil(optimizer.warmup_fraction * steps)
    decay = {}
    if optimizer.schedule == "warmup_stable_decay":
        share = max(1, round(optimizer.decay_fraction * (steps - warmup)))
        decay = {"wsd_decay_steps": share, "lr_wsd_decay_style": "linear"}
    return {
        "init_lr": 0.0,
        "max_lr": optimizer.learning_rate,
        "min_lr": optimizer.learning_rate * optimizer.final_fraction,
        "lr_warmup_steps": warmup,
        "lr_decay_steps": steps,
        "lr_decay_style": styles[optimizer.schedule],
        "start_wd": optimizer.weight_decay,
        "end_wd": optimizer.weight_decay,
        "wd_incr_steps": steps,
        "wd_incr_style": "constant",
        **decay,
    }


def command_line(job: TrainingJob) -> dict[str, Any]:
    """The same as options of Megatron-LM's ``pretrain_gpt.py``; True is a flag."""
    assert isinstance(job.recipe, PretrainingRecipe)
    model, optimizer, plan = job.recipe.model, job.plan.optimizer, schedule(job)
    return {
        "num-layers": model.layers,
        "hidden-size": model.hidden_size,
        "ffn-hidden-size": model.intermediate_size,
        "num-attention-heads": model.heads,
        "seq-length": job.rows.sequence_length,
        "max-position-embeddings": model.maximum_positions,
        "swiglu": True,
        "disable-bias-linear": True,
        "attention-dropout": 0.0,
        "hidden-dropout": 0.0,
        "init-method-std": model.initializer_range,
        **({} if model.tie_embeddings else {"untie-embeddings-and-output-weights": True}),
        "make-vocab-size-divisible-by": VOCABULARY_MULTIPLE,
        "tensor-model-parallel-size": job.backend.tensor_parallel,
        "pipeline-model-parallel-size": job.backend.pipeline_parallel,
        "micro-batch-size": job.micro_rows,
        "global-batch-size": job.plan.batch.global_rows,
        "train-iters": job.plan.steps,
        "optimizer": "adam",
        "lr": optimizer.learning_rate,
        "min-lr": plan["min_lr"],
        "lr-decay-style": plan["lr_decay_style"],
        "lr-decay-iters": job.plan.steps,
        "lr-warmup-iters": plan["lr_warmup_steps"],
        "weight-decay": optimizer.weight_decay,
        "adam-beta1": optimizer.beta1,
        "adam-beta2": optimizer.beta2,
        "adam-eps": optimizer.epsilon,
        "clip-grad": optimizer.gradient_clip,
        "seed": seed(job),
        **half_flag(job.plan.compute.precision),
        **{name.replace("_", "-"): value for name, value in recomputation(job).items()},
    }


def as_words(options: dict[str, Any]) -> str:
    """Options as lines of a command line's argument file."""
    return "".join(
        f"--{name}\n" if value is True else f"--{name} {value}\n" for name, value in options.items()
    )
