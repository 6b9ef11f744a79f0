"""MS-Swift's Megatron mode: what is written for it, which sizes divide, and what its own parser says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.training.backends import megatron_swift
from codellm_dag.training.backends.protocol import BackendUnavailableError
from codellm_dag.training.rows import InvalidTrainingDataError
from tests.training.backends.jobs import BF16, job, pretraining, sft

GOLDEN = {
    "model": "model",
    "model_type": "llama",
    "template": "chatml",
    "dataset": ["data/train.json"],
    "split_dataset_ratio": 0.0,
    "tuner_type": "full",
    "torch_dtype": "float32",
    "max_length": 128,
    "truncation_strategy": "delete",
    "output_dir": "out",
    "add_version": False,
    "use_hf": True,
    "fp16": False,
    "bf16": False,
    "packing": False,
    "padding_free": False,
    "attention_backend": "unfused",
    "recompute_granularity": "none",
    "micro_batch_size": 4,  # two rows, each of two conversations of 41 to 43 tokens
    "global_batch_size": 8,
    "train_iters": 10,
    "optimizer": "adam",
    "lr": 0.01,
    "min_lr": 0.001,
    "lr_decay_style": "cosine",
    "lr_decay_iters": 10,
    "lr_warmup_iters": 2,
    "weight_decay": 0.1,
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "adam_eps": 1e-08,
    "clip_grad": 1.0,
    "seed": 1,  # the recipe's 0 is refused by Megatron
    "tensor_model_parallel_size": 1,
    "pipeline_model_parallel_size": 2,
    "expert_model_parallel_size": 1,
    "context_parallel_size": 1,
    "sequence_parallel": False,
    "use_distributed_optimizer": False,
    "save_strategy": "steps",
    "save_steps": 10,
    "no_save_optim": True,
    "no_save_rng": True,
    "logging_steps": 1,
    "eval_iters": 0,
}
QWEN_MOE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 256,
    "moe_intermediate_size": 32,
    "num_experts": 8,
    "num_experts_per_tok": 2,
}


def _mixture_of_experts() -> Any:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    return Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=259, **QWEN_MOE))


def test_golden_arguments(tmp_path: Path) -> None:
    rendered = megatron_swift.render(
        job(sft("megatron_swift", {"backend.pipeline_parallel": 2}), tmp_path, processes=4)
    )
    assert json.loads(rendered.files["train.json"]) == GOLDEN
    assert json.loads(rendered.files["group.json"]) == {"processes": 4, "data_parallel_size": 2}
    assert rendered.command == ("-m", "swift.cli._megatron.main", "sft", "train.json")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_and_recomputation(precision: str, tmp_path: Path) -> None:
    changes = {**BF16, "compute.precision": precision, "backend.pipeline_parallel": 2}
    rendered = megatron_swift.render(job(sft("megatron_swift", changes), tmp_path, processes=4))
    recomputed = {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    weights = {"torch_dtype": {"bf16": "bfloat16", "fp16": "float16"}[precision], precision: True}
    weights["accumulate_allreduce_grads_in_fp32"] = True
    assert json.loads(rendered.files["train.json"]) == GOLDEN | weights | recomputed


def test_a_final_decay_is_expressed(tmp_path: Path) -> None:
    changes = {"optimizer.schedule": "warmup_stable_decay", "optimizer.decay_fraction": 0.25}
    config = json.loads(
        megatron_swift.render(job(sft("megatron_swift", changes), tmp_path, steps=20)).files["train.json"]
    )
    # 20 steps, 4 of warm-up, a quarter of the other 16 of decay
    assert (config["lr_decay_style"], config["lr_wsd_decay_style"], config["lr_wsd_decay_iters"]) == (
        "WSD",
        "linear",
        4,
    )


@pytest.mark.parametrize(
    ("changes", "processes", "told"),
    [
        (  # the tiny Llama has width 32, two layers and two heads
            {"backend.tensor_parallel": 4},
            4,
            r"the checkpoint does not fit: model\.heads = 2: backend\.tensor_parallel = 4 does not divide it",
        ),
        ({"backend.pipeline_parallel": 3}, 3, r"model\.layers = 2: backend\.pipeline_parallel = 3 does not"),
        ({"backend.expert_parallel": 2}, 2, r"backend\.expert_parallel = 2: a dense model; allowed: 1"),
        (
            {"backend.tensor_parallel": 2},
            3,
            r"3 processes: .* = 2 does not divide them; allowed: multiples",
        ),
        ({}, 4, r"batch\.global_rows = 4: 4 copies of the model read 2 rows each; allowed: multiples of 8"),
    ],
)
def test_degrees_that_do_not_divide_are_refused(
    changes: dict, processes: int, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidTrainingDataError, match=told):
        megatron_swift.render(job(sft("megatron_swift", changes), tmp_path, processes=processes))


def test_experts_are_shared_out(tmp_path: Path) -> None:
    for degree, fits in ((4, True), (3, False)):
        recipe = sft("megatron_swift", {"backend.expert_parallel": degree, "batch.global_rows": 24})
        this = dataclasses.replace(
            job(recipe, tmp_path / str(degree), processes=12), build=_mixture_of_experts
        )
        if fits:
            rendered = megatron_swift.render(this)
            assert json.loads(rendered.files["train.json"])["expert_model_parallel_size"] == 4
            continue
        with pytest.raises(InvalidTrainingDataError, match=r"model\.experts = 8: .* = 3 does not divide it"):
            megatron_swift.render(this)


def test_what_it_cannot_express_is_refused() -> None:
    (line,) = megatron_swift.refusals(pretraining("megatron_swift"))
    assert line.startswith("backend.name = megatron_swift: used for fine-tuning on messages only; allowed")
    assert megatron_swift.refusals(sft("megatron_swift", {"replay": 0.1})) == [
        "replay = 0.1: megatron_swift cannot express it; allowed: 0.0"
    ]
    assert megatron_swift.refusals(sft("megatron_swift", {"optimizer.schedule": "linear"})) == []
    with pytest.raises(InvalidRecipeError, match=r"backend\.zero_stage = 1: megatron_swift cannot"):
        SftRecipe.parse({"backend": {"name": "megatron_swift", "zero_stage": 1}})
    with pytest.raises(BackendUnavailableError, match="needs transformer_engine, which its environment"):
        megatron_swift.version()


@pytest.mark.frameworks
def test_its_own_parser_takes_what_is_written_and_not_what_is_wrong(
    built: Callable[[str], None], tmp_path: Path
) -> None:
    built("swift")
    changes = {"backend.tensor_parallel": 2, "backend.pipeline_parallel": 2, "seed": 5}
    half = job(sft("megatron_swift", {**changes, **BF16}), tmp_path / "bf16", processes=8)
    megatron_swift.validate(megatron_swift.render(half))
    rendered = megatron_swift.render(job(sft("megatron_swift", changes), tmp_path / "dense", processes=8))
    megatron_swift.validate(rendered)  # two copies of the model
    this = job(
        sft("megatron_swift", {"backend.expert_parallel": 4, "batch.global_rows": 8}),
        tmp_path / "moe",
        processes=4,
    )
    megatron_swift.validate(megatron_swift.render(dataclasses.replace(this, build=_mixture_of_experts)))
    config = json.loads(rendered.files["train.json"])
    for wrong, told in (
        ({"nosuch": 1}, "nosuch"),
        ({"micro_batch_size": 3}, "global batch size .8. is not divisible by micro batch size"),
    ):
        files = {**rendered.files, "train.json": json.dumps(config | wrong)}
        with pytest.raises(InvalidRecipeError, match=rf"own parser refuses the configuration: .*{told}"):
            megatron_swift.validate(dataclasses.replace(rendered, files=files))
