"""verl: the overrides of its configuration, what is refused, and what its own tree makes of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.training.backends import verl
from codellm_dag.training.backends.protocol import BackendUnavailableError
from tests.training.backends.jobs import BF16, job, pretraining, sft

GOLDEN = {
    "data.train_files": "data/train.parquet",
    "data.train_batch_size": 8,  # four rows, each of two conversations of 41 to 43 tokens
    "data.micro_batch_size_per_gpu": 4,
    "data.use_dynamic_bsz": False,
    "data.max_length": 128,
    "data.truncation": "right",
    "data.num_workers": 0,
    "model.path": "model",
    "model.enable_gradient_checkpointing": False,
    "engine.strategy": "fsdp2",
    "engine.fsdp_size": -1,
    "engine.offload_policy": False,
    "engine.model_dtype": "fp32",
    "+engine.mixed_precision": {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"},
    "engine.use_torch_compile": False,
    "engine.seed": 0,
    "optim.optimizer": "AdamW",
    "optim.lr": 0.01,
    "optim.lr_warmup_steps": 2,
    "optim.lr_scheduler_type": "cosine",
    "optim.min_lr_ratio": 0.1,
    "optim.weight_decay": 0.1,
    "optim.betas": [0.9, 0.95],
    "optim.clip_grad": 1.0,
    "optim.override_optimizer_config": {"eps": 1e-08},
    "checkpoint.save_contents": ["model", "hf_model"],
    "trainer.default_local_dir": "out",
    "trainer.total_epochs": 10,
    "trainer.total_training_steps": 10,
    "trainer.logger": ["console", "file"],
    "trainer.seed": 0,
    "trainer.resume_mode": "disable",
    "trainer.device": "cuda",  # it is rendered for another machine, too
    "trainer.n_gpus_per_node": 1,
}


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_golden_configuration(tmp_path: Path) -> None:
    rendered = verl.render(job(sft("verl"), tmp_path))
    assert json.loads(rendered.files["overrides.json"]) == GOLDEN
    assert rendered.command[:4] == ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1")
    assert 'data.train_files="data/train.parquet"' in rendered.command
    assert "optim.override_optimizer_config={eps:1e-08}" in rendered.command


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_and_recomputation(precision: str, tmp_path: Path) -> None:
    rendered = verl.render(job(sft("verl", {**BF16, "compute.precision": precision}), tmp_path))
    mixed = {"param_dtype": precision, "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    changed = {"model.enable_gradient_checkpointing": True, "+engine.mixed_precision": mixed}
    assert json.loads(rendered.files["overrides.json"]) == GOLDEN | changed


def test_sharding_groups_and_offload(tmp_path: Path) -> None:
    recipe = sft("verl", {"backend.hybrid_sharding": 2, "backend.offload": True})
    overrides = json.loads(verl.render(job(recipe, tmp_path, processes=2)).files["overrides.json"])
    assert overrides["engine.fsdp_size"] == 2
    assert overrides["engine.offload_policy"] is True


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"optimizer.name": "muon"}, "optimizer.name = muon: verl has another one; allowed: adamw"),
        (
            {"optimizer.schedule": "warmup_stable_decay"},
            "optimizer.schedule = warmup_stable_decay: not in verl; allowed: cosine, constant",
        ),
        ({"replay": 0.1}, "replay = 0.1: verl cannot express it; allowed: 0.0"),
        ({"optimizer.schedule": "constant"}, ""),
    ],
)
def test_refusals(changes: dict, line: str) -> None:
    assert verl.refusals(sft("verl", changes)) == ([line] if line else [])


def test_pretraining_and_other_parallel_degrees_are_refused() -> None:
    assert verl.refusals(pretraining("verl"))[0].startswith("backend.name = verl: used for fine-tuning")
    with pytest.raises(InvalidRecipeError, match=r"backend\.pipeline_parallel = 2: verl cannot express it"):
        SftRecipe.parse({"backend": {"name": "verl", "pipeline_parallel": 2}})


def test_a_machine_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codellm_dag.training.environments.framework.FrameworkEnvironment.built", True)
    with pytest.raises(
        BackendUnavailableError, match=r"backend\.name = verl: needs a GPU \(its processes meet"
    ):
        verl.version()


@pytest.mark.frameworks
def test_its_own_tree_composes_what_is_written_and_not_what_is_wrong(
    built: Callable[[str], None], tmp_path: Path
) -> None:
    built("verl")
    verl.validate(verl.render(job(sft("verl", BF16), tmp_path / "bf16")))
    rendered = verl.render(job(sft("verl"), tmp_path / "fp32"))
    verl.validate(rendered)
    for wrong, told in (({"engine.nosuch": 1}, "nosuch"), ({"engine.strategy": "fsdp9"}, "fsdp9")):
        words = [f"{name}={value}" for name, value in wrong.items()]
        files = {
            **rendered.files,
            "words.json": json.dumps([*json.loads(rendered.files["words.json"]), *words]),
        }
        with pytest.raises(InvalidRecipeError, match=told):
            verl.validate(dataclasses.replace(rendered, files=files))
