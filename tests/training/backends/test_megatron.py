"""Megatron-Core: arguments of its classes and of Megatron-LM, what does not divide, what its classes say."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.training.backends import megatron
from codellm_dag.training.backends.protocol import BackendUnavailableError
from codellm_dag.training.rows import InvalidTrainingDataError
from codellm_dag.training.schedule import learning_rate_share
from tests.training.backends.jobs import BF16, job, pretraining, sft

DEGREES = {"backend.tensor_parallel": 2, "backend.pipeline_parallel": 4}
TRANSFORMER = {
    "num_layers": 4,
    "hidden_size": 64,
    "ffn_hidden_size": 128,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "normalization": "RMSNorm",
    "layernorm_epsilon": 1e-6,
    "gated_linear_unit": True,
    "add_bias_linear": False,
    "attention_dropout": 0.0,
    "hidden_dropout": 0.0,
    "init_method_std": 0.02,
    "params_dtype": "float32",
    "pipeline_dtype": "float32",
    "tensor_model_parallel_size": 2,
    "pipeline_model_parallel_size": 4,
    "context_parallel_size": 1,
    "expert_model_parallel_size": 1,
    "sequence_parallel": True,
}


def test_golden_configuration(tmp_path: Path) -> None:
    rendered = megatron.render(job(pretraining("megatron", DEGREES), tmp_path, processes=8))
    config = json.loads(rendered.files["megatron.json"])
    assert config["transformer"] == TRANSFORMER
    assert config["schedule"]["min_lr"] == pytest.approx(3e-4)
    words = rendered.files["arguments.txt"].splitlines()
    assert words[:4] == [
        "--num-layers 4",
        "--hidden-size 64",
        "--ffn-hidden-size 128",
        "--num-attention-heads 4",
    ]
    for line in (
        "--swiglu",
        "--num-query-groups 2",
        "--sequence-parallel",
        "--global-batch-size 8",
        "--micro-batch-size 2",
    ):
        assert line in words


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_and_recomputation(precision: str, tmp_path: Path) -> None:
    changes = {**DEGREES, **BF16, "compute.precision": precision}
    rendered = megatron.render(job(pretraining("megatron", changes), tmp_path, processes=8))
    config, kind = (
        json.loads(rendered.files["megatron.json"]),
        {"bf16": "bfloat16", "fp16": "float16"}[precision],
    )
    recomputed = {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    weights = {"params_dtype": kind, precision: True}
    assert config["transformer"] == TRANSFORMER | weights | {"pipeline_dtype": kind} | recomputed
    assert {name: config["optimizer"].get(name) for name in weights} == weights
    assert config["data_parallel"]["grad_reduce_in_fp32"] is True
    words = rendered.files["arguments.txt"].splitlines()
    for line in (
        *(f"--{precision}", "--accumulate-allreduce-grads-in-fp32"),
        *("--recompute-granularity full", "--recompute-method uniform", "--recompute-num-layers 1"),
    ):
        assert line in words


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"backend.tensor_parallel": 8},
            "model.heads = 4: backend.tensor_parallel = 8 does not divide it; allowed: a multiple of 8, or "
            "backend.tensor_parallel one of 1, 2, 4",
        ),
        (
            {"backend.pipeline_parallel": 3},
            "model.layers = 4: backend.pipeline_parallel = 3 does not divide it; allowed: a multiple of 3, "
            "or backend.pipeline_parallel one of 1, 2, 4",
        ),
        ({"backend.expert_parallel": 2}, "backend.expert_parallel = 2: a dense model; allowed: 1"),
        ({"optimizer.name": "muon"}, "optimizer.name = muon: megatron has another one; allowed: adamw"),
        ({"backend.tensor_parallel": 4}, ""),  # two key heads on four devices: each is copied
        (DEGREES, ""),
    ],
)
def test_refusals(changes: dict, line: str) -> None:
    assert megatron.refusals(pretraining("megatron", changes)) == ([line] if line else [])


def test_rows_and_processes_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidTrainingDataError, match=r"6 processes: .* = 8 does not divide them; allowed: mult"
    ):
        megatron.render(job(pretraining("megatron", DEGREES), tmp_path / "a", processes=6))
    with pytest.raises(InvalidTrainingDataError, match=r"context_parallel = 3 .* need a multiple of 6"):
        megatron.render(
            job(pretraining("megatron", {"backend.context_parallel": 3}), tmp_path / "b", processes=3)
        )
    with pytest.raises(
        InvalidTrainingDataError, match=r"batch.global_rows = 8: 8 copies of the model read 2 rows"
    ):
        megatron.render(job(pretraining("megatron"), tmp_path / "c", processes=8))


def test_fine_tuning_and_training_here_are_refused() -> None:
    assert megatron.refusals(sft("megatron"))[0].startswith(
        "backend.name = megatron: used for pretraining on"
    )
    with pytest.raises(BackendUnavailableError, match=r"megatron-core 0\.16\.1 has no training program"):
        megatron.version()


@pytest.mark.frameworks
def test_its_classes_take_what_is_written_and_its_schedule_is_ours(
    built: Callable[[str], None], tmp_path: Path
) -> None:
    built("megatron")
    for schedule in ("cosine", "linear", "constant"):
        recipe = pretraining("megatron", {**DEGREES, "optimizer.schedule": schedule})
        this = job(recipe, tmp_path / schedule, steps=40, processes=8)
        rates = megatron.learning_rates(megatron.render(this))
        ours = [learning_rate_share(step, 40, recipe.optimizer) * 3e-3 for step in range(40)]
        assert rates == pytest.approx(
            [0.0, *ours[:-1]], abs=3e-3 * 0.03
        )  # one step later, and its end is too
    half = job(pretraining("megatron", {**DEGREES, **BF16}), tmp_path / "bf16", processes=8)
    megatron.validate(megatron.render(half))
    rendered = megatron.render(this)
    for part, wrong, words in (
        ("transformer", {"tensor_model_parallel_size": 3}, "must be a multiple of"),
        ("transformer", {"nosuch": 3}, "nosuch"),
        ("schedule", {"min_lr": 1.0}, "AssertionError"),
    ):
        config = json.loads(rendered.files["megatron.json"])
        config[part] |= wrong
        files = {**rendered.files, "megatron.json": json.dumps(config)}
        with pytest.raises(InvalidRecipeError, match=words):
            megatron.validate(dataclasses.replace(rendered, files=files))
