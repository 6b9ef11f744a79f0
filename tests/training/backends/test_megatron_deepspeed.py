"""Megatron-DeepSpeed: options and DeepSpeed's configuration, what is refused, sizes by Megatron-Core."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.training.backends import megatron_deepspeed
from codellm_dag.training.backends.protocol import BackendUnavailableError
from tests.training.backends.jobs import BF16, job, pretraining, sft

NAME = "megatron_deepspeed"
CHANGES = {"backend.zero_stage": 2, "backend.offload": True, "backend.tensor_parallel": 2}


def test_golden_configuration(tmp_path: Path) -> None:
    rendered = megatron_deepspeed.render(job(pretraining(NAME, CHANGES), tmp_path, processes=4))
    assert json.loads(rendered.files["deepspeed.json"]) == {
        "train_batch_size": 8,
        "train_micro_batch_size_per_gpu": 2,
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}},
        "bf16": {"enabled": False},
        "fp16": {"enabled": False},
    }
    words = rendered.files["arguments.txt"].splitlines()
    for line in (
        *("--num-layers 4", "--num-key-value-heads 2", "--tensor-model-parallel-size 2", "--zero-stage 2"),
        *(
            "--cpu-optimizer",
            "--no-pipeline-parallel",
            "--deepspeed_config deepspeed.json",
            "--train-iters 10",
        ),
    ):
        assert line in words


def test_bf16_and_recomputation(tmp_path: Path) -> None:
    rendered = megatron_deepspeed.render(job(pretraining(NAME, CHANGES | BF16), tmp_path, processes=4))
    config = json.loads(rendered.files["deepspeed.json"])
    assert (config["bf16"], config["fp16"]) == ({"enabled": True}, {"enabled": False})
    words = rendered.files["arguments.txt"].splitlines()
    for line in (
        *("--bf16", "--deepspeed-activation-checkpointing"),
        *("--recompute-granularity full", "--recompute-method uniform", "--recompute-num-layers 1"),
    ):
        assert line in words


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"backend.zero_stage": 2, "backend.pipeline_parallel": 2},
            "backend.zero_stage = 2: DeepSpeed's pipelines keep whole gradients; allowed with "
            "backend.pipeline_parallel = 2: 0, 1",
        ),
        (
            {"optimizer.schedule": "warmup_stable_decay"},
            "optimizer.schedule = warmup_stable_decay: not in megatron_deepspeed; allowed: cosine, "
            "linear, constant",
        ),
        (
            {"model.intermediate_size": 129, "backend.tensor_parallel": 2},
            "model.intermediate_size = 129: backend.tensor_parallel = 2 does not divide it; allowed: a "
            "multiple of 2, or backend.tensor_parallel one of 1, 3, 43",
        ),
        ({"backend.zero_stage": 1, "backend.pipeline_parallel": 2}, ""),
    ],
)
def test_refusals(changes: dict, line: str) -> None:
    assert megatron_deepspeed.refusals(pretraining(NAME, changes)) == ([line] if line else [])


def test_fine_tuning_context_parallelism_and_training_here_are_refused() -> None:
    assert megatron_deepspeed.refusals(sft(NAME))[0].startswith(
        "backend.name = megatron_deepspeed: used for pre"
    )
    with pytest.raises(InvalidRecipeError, match=r"backend\.context_parallel = 2: megatron_deepspeed cannot"):
        pretraining(NAME, {"backend.context_parallel": 2})
    with pytest.raises(BackendUnavailableError, match="Megatron-DeepSpeed is no package"):
        megatron_deepspeed.version()


@pytest.mark.frameworks
def test_sizes_by_megatron_cores_class(built: Callable[[str], None], tmp_path: Path) -> None:
    built("megatron")
    rendered = megatron_deepspeed.render(job(pretraining(NAME, CHANGES), tmp_path / "fp32", processes=4))
    megatron_deepspeed.validate(rendered)
    half = job(pretraining(NAME, CHANGES | BF16), tmp_path / "bf16", processes=4)
    megatron_deepspeed.validate(megatron_deepspeed.render(half))
    sizes = {**json.loads(rendered.files["sizes.json"]), "num_attention_heads": 3}
    files = {**rendered.files, "sizes.json": json.dumps(sizes)}
    with pytest.raises(InvalidRecipeError, match="must be a multiple of"):
        megatron_deepspeed.validate(dataclasses.replace(rendered, files=files))
