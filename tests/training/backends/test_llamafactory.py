"""LLaMA-Factory: what is written for it, what is refused, what its own parser says, and a run."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.training.backends import llamafactory
from codellm_dag.training.environments.framework import VARIABLE, MissingEnvironmentError
from codellm_dag.training.rows import InvalidTrainingDataError
from tests.training.backends.jobs import BF16, TALKS, agrees_in_bf16, job, learns, pretraining, sft

GOLDEN = """\
stage: sft
do_train: true
finetuning_type: full
model_name_or_path: model
dataset: train
dataset_dir: data
cutoff_len: 128
packing: true
neat_packing: true
flash_attn: sdpa
disable_gradient_checkpointing: true
preprocessing_num_workers: 1
output_dir: out
max_steps: 10
per_device_train_batch_size: 2
gradient_accumulation_steps: 2
optim: adamw_torch
learning_rate: 0.01
lr_scheduler_type: cosine_with_min_lr
lr_scheduler_kwargs:
  min_lr_rate: 0.1
warmup_steps: 2
weight_decay: 0.1
adam_beta1: 0.9
adam_beta2: 0.95
adam_epsilon: 1.0e-08
max_grad_norm: 1.0
seed: 0
logging_steps: 1
logging_nan_inf_filter: false
save_strategy: 'no'
report_to: none
use_cpu: true
dataloader_num_workers: 0
"""


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_golden_configuration(tmp_path: Path) -> None:
    rendered = llamafactory.render(job(sft("llamafactory"), tmp_path))
    assert rendered.files["train.yaml"] == GOLDEN
    assert rendered.command == ("-m", "llamafactory.launcher", "train.yaml")
    assert [row["messages"] for row in json.loads(rendered.files["data/train.json"])] == TALKS
    table = json.loads(rendered.files["data/dataset_info.json"])
    assert (table["train"]["file_name"], table["train"]["formatting"]) == ("train.json", "sharegpt")


def test_bf16_and_recomputation(tmp_path: Path) -> None:
    config = yaml.safe_load(llamafactory.render(job(sft("llamafactory", BF16), tmp_path)).files["train.yaml"])
    changed = {"bf16": True, "disable_gradient_checkpointing": False, "use_reentrant_gc": False}
    assert config == yaml.safe_load(GOLDEN) | changed


def test_fp16_needs_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    this = job(sft("llamafactory", {"compute.precision": "fp16"}), tmp_path)
    with pytest.raises(InvalidRecipeError, match=r"compute\.precision = fp16: needs a GPU; allowed here"):
        llamafactory.render(this)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    config = yaml.safe_load(llamafactory.render(this).files["train.yaml"])
    assert config == yaml.safe_load(GOLDEN) | {"fp16": True, "use_cpu": False}


@pytest.mark.parametrize(
    ("schedule", "name", "options"),
    [
        ("constant", "constant_with_warmup", None),
        (
            "warmup_stable_decay",  # 20 steps, 4 of warm-up, a quarter of the other 16 of decay
            "warmup_stable_decay",
            {"num_decay_steps": 4, "num_stable_steps": 12, "decay_type": "linear", "min_lr_ratio": 0.1},
        ),
    ],
)
def test_schedules(schedule: str, name: str, options: dict | None, tmp_path: Path) -> None:
    recipe = sft("llamafactory", {"optimizer.schedule": schedule, "optimizer.decay_fraction": 0.25})
    config = yaml.safe_load(llamafactory.render(job(recipe, tmp_path, steps=20)).files["train.yaml"])
    assert (config["lr_scheduler_type"], config.get("lr_scheduler_kwargs")) == (name, options)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"optimizer.name": "muon"}, "optimizer.name = muon: llamafactory has another one; allowed: adamw"),
        ({"replay": 0.1}, "replay = 0.1: llamafactory cannot express it; allowed: 0.0"),
        (
            {"optimizer.schedule": "linear"},
            "optimizer.final_fraction = 0.1: llamafactory's schedule linear ends at 0; allowed: 0, or a "
            "schedule of cosine, warmup_stable_decay, constant",
        ),
        ({"optimizer.schedule": "linear", "optimizer.final_fraction": 0}, ""),
        ({"epochs": 3, "optimizer.beta2": 0.99, "seed": 5, "base": "base_checkpoint"}, ""),
        (
            {**BF16, "compute.liger": True},
            "compute.liger = True: llamafactory cannot express it; allowed: False",
        ),
        (BF16, ""),
    ],
)
def test_refusals(changes: dict, line: str) -> None:
    assert llamafactory.refusals(sft("llamafactory", changes)) == ([line] if line else [])


def test_pretraining_and_sharding_are_refused() -> None:
    (line,) = llamafactory.refusals(pretraining("llamafactory"))
    assert line.startswith(
        "backend.name = llamafactory: used for fine-tuning on messages only; allowed here:"
    )
    with pytest.raises(InvalidRecipeError, match=r"backend\.zero_stage = 2: llamafactory cannot express it"):
        SftRecipe.parse({"backend": {"name": "llamafactory", "zero_stage": 2}})


def test_a_field_of_a_later_recipe_is_refused_not_ignored() -> None:
    class Later(SftRecipe):
        adapters: int = 0

    later = Later.parse({"backend": {"name": "llamafactory"}, "adapters": 8})
    assert llamafactory.refusals(later) == ["adapters = 8: llamafactory cannot express it; allowed: 0"]


def test_data_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    twice = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, TALKS[0][1]]
    with pytest.raises(
        InvalidTrainingDataError, match="conversation 1 of the data has the roles user, user, ass"
    ):
        llamafactory.render(job(sft("llamafactory"), tmp_path / "roles", talks=[TALKS[0], twice]))


def test_a_missing_environment_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(MissingEnvironmentError, match="codellm-dag environments build llamafactory"):
        llamafactory.version()


@pytest.mark.frameworks
def test_its_own_parser_takes_what_is_written_and_not_what_is_wrong(
    built: Callable[[str], None], tmp_path: Path
) -> None:
    built("llamafactory")
    llamafactory.validate(llamafactory.render(job(sft("llamafactory", BF16), tmp_path / "bf16")))
    rendered = llamafactory.render(job(sft("llamafactory"), tmp_path / "fp32"))
    llamafactory.validate(rendered)
    text = rendered.files["train.yaml"]
    unknown = {**rendered.files, "train.yaml": text + "nosuch: 1\n"}
    with pytest.raises(InvalidRecipeError, match=r"own parser refuses the configuration: .*nosuch"):
        llamafactory.validate(dataclasses.replace(rendered, files=unknown))
    silent = {
        **rendered.files,
        "train.yaml": text.replace("\npacking: true", "\npacking: false"),
    }
    with pytest.raises(InvalidRecipeError, match="understood something else: packing = False became True"):
        llamafactory.validate(dataclasses.replace(rendered, files=silent))


@pytest.mark.frameworks
def test_a_run_learns_and_gives_a_checkpoint(built: Callable[[str], None], tmp_path: Path) -> None:
    built("llamafactory")
    report = learns("llamafactory", tmp_path)
    rates = [values["learning_rate"] for _, values in report.points]
    assert rates[:3] == [0.0, 0.005, 0.01]  # its warm-up starts at 0
    assert rates[-1] == pytest.approx(0.01 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 7 / 8))))


@pytest.mark.frameworks
def test_a_run_in_bf16_with_recomputation_is_the_trainers(
    built: Callable[[str], None], tmp_path: Path
) -> None:
    built("llamafactory")
    printed = agrees_in_bf16("llamafactory", tmp_path, tolerance=1e-4)
    assert "Gradient checkpointing enabled." in printed
    assert "Upcasting trainable params to float32." in printed
