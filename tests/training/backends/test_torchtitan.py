"""TorchTitan: its module of configuration and options, what is refused, what its own objects make of them."""

from __future__ import annotations

import ast
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.training.backends import torchtitan
from codellm_dag.training.backends.protocol import BackendUnavailableError
from codellm_dag.training.model import new_model
from tests.training.backends.jobs import BF16, job, pretraining, sft

GOLDEN = """\
--module titan_job --config job --training.local_batch_size 2 --training.global_batch_size 8 \
--training.seq_len 128 --training.max_norm 1.0 --training.steps 20 --training.dtype float32 \
--training.mixed_precision_param float32 --lr_scheduler.warmup_steps 1 --lr_scheduler.decay_type linear \
--lr_scheduler.min_lr_factor 0.1 --lr_scheduler.decay_ratio 0.19 \
--parallelism.data_parallel_replicate_degree 2 --parallelism.data_parallel_shard_degree 2 \
--parallelism.tensor_parallel_degree 2 --parallelism.pipeline_parallel_degree 1 \
--parallelism.context_parallel_degree 1 --debug.seed 0"""
CHANGES = {
    "backend.tensor_parallel": 2,
    "backend.hybrid_sharding": 2,
    "optimizer.schedule": "warmup_stable_decay",
}


def test_golden_configuration(tmp_path: Path) -> None:
    rendered = torchtitan.render(job(pretraining("torchtitan", CHANGES), tmp_path, steps=20, processes=8))
    assert " ".join(json.loads(rendered.files["words.json"])) == GOLDEN
    tree = ast.parse(rendered.files["titan_job.py"])
    values = {node.arg: ast.unparse(node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    for name, value in (
        *(("n_layers", "4"), ("n_heads", "4"), ("n_kv_heads", "2"), ("hidden_dim", "128")),
        *(
            ("betas", "(0.9, 0.95)"),
            ("weight_decay", "0.1"),
            ("theta", "10000.0"),
            ("enable_weight_tying", "True"),
            ("activation_checkpoint", "recomputed"),
        ),
    ):
        assert values[name] == value, name
    assert "recomputed = FullAC.Config() if False else None" in rendered.files["titan_job.py"]


def test_bf16_and_recomputation(tmp_path: Path) -> None:
    recipe = pretraining("torchtitan", CHANGES | BF16)
    rendered = torchtitan.render(job(recipe, tmp_path, steps=20, processes=8))
    golden = GOLDEN.replace("mixed_precision_param float32", "mixed_precision_param bfloat16")
    assert " ".join(json.loads(rendered.files["words.json"])) == golden  # the weights stay float32
    assert "recomputed = FullAC.Config() if True else None" in rendered.files["titan_job.py"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"backend.tensor_parallel": 4},
            "model.kv_heads = 2: torchtitan copies no key heads; allowed: a multiple of "
            "backend.tensor_parallel = 4",
        ),
        (
            {"backend.pipeline_parallel": 2},
            "model.tie_embeddings = True: not in a pipeline of torchtitan; allowed with "
            "backend.pipeline_parallel = 2: False",
        ),
        ({"optimizer.name": "muon"}, "optimizer.name = muon: torchtitan has another one; allowed: adamw"),
        ({"backend.pipeline_parallel": 2, "model.tie_embeddings": False}, ""),
        (
            {"compute.precision": "fp16"},
            "compute.precision = fp16: torchtitan has no float16; allowed: fp32, bf16",
        ),
        (BF16, ""),
    ],
)
def test_refusals(changes: dict, line: str) -> None:
    assert torchtitan.refusals(pretraining("torchtitan", changes)) == ([line] if line else [])


def test_fine_tuning_zero_and_training_here_are_refused() -> None:
    assert torchtitan.refusals(sft("torchtitan"))[0].startswith(
        "backend.name = torchtitan: used for pretraining"
    )
    with pytest.raises(InvalidRecipeError, match=r"backend\.zero_stage = 1: torchtitan cannot express it"):
        pretraining("torchtitan", {"backend.zero_stage": 1})
    with pytest.raises(BackendUnavailableError, match=r"TorchTitan 0\.3\.0 does not read our shards"):
        torchtitan.version()


@pytest.mark.frameworks
def test_its_own_objects_take_what_is_written_and_not_what_is_wrong(
    built: Callable[[str], None], tmp_path: Path
) -> None:
    built("torchtitan")
    recipe = pretraining("torchtitan")
    rendered = torchtitan.render(job(recipe, tmp_path, processes=4))
    ours = new_model(recipe.model, vocabulary_size=259, end_of_text=0, seed=0)
    assert torchtitan.parameters(rendered) == sum(parameter.numel() for parameter in ours.parameters())
    words = json.loads(rendered.files["words.json"])
    for wrong, told in (
        (["--nosuch.field", "1"], "nosuch"),
        (["--lr_scheduler.decay_type", "nosuch"], "decay"),
        (["--parallelism.tensor_parallel_degree", "3"], "must divide"),
        (["--training.seq_len", "4096"], "exceeds"),
    ):
        files = {**rendered.files, "words.json": json.dumps([*words, *wrong])}
        with pytest.raises(InvalidRecipeError, match=told):
            torchtitan.validate(dataclasses.replace(rendered, files=files))
