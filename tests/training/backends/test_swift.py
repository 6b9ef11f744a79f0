"""MS-Swift: what is written for it, what is refused, what its own parser says, and a run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.training.backends import swift
from codellm_dag.training.rows import InvalidTrainingDataError
from tests.training.backends.jobs import BF16, TALKS, agrees_in_bf16, job, learns, pretraining, sft

GOLDEN = {
    "model": "model",
    "model_type": "llama",
    "template": "chatml",
    "dataset": ["data/train.json"],
    "split_dataset_ratio": 0.0,
    "tuner_type": "full",
    "torch_dtype": "float32",
    "attn_impl": "sdpa",
    "max_length": 128,
    "truncation_strategy": "delete",
    "gradient_checkpointing": False,
    "fp16": False,
    "bf16": False,
    "output_dir": "out",
    "add_version": False,
    "use_hf": True,
    "max_steps": 10,
    "per_device_train_batch_size": 4,  # two rows, each of two conversations of 41 to 43 tokens
    "gradient_accumulation_steps": 2,
    "optim": "adamw_torch",
    "learning_rate": 0.01,
    "lr_scheduler_type": "cosine_with_min_lr",
    "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
    "warmup_steps": 2,
    "weight_decay": 0.1,
    "adam_beta1": 0.9,
    "adam_beta2": 0.95,
    "adam_epsilon": 1e-08,
    "max_grad_norm": 1.0,
    "seed": 0,
    "logging_steps": 1,
    "logging_nan_inf_filter": False,
    "save_strategy": "steps",
    "report_to": ["none"],
    "use_cpu": True,
    "dataloader_num_workers": 0,
    "save_steps": 10,
    "save_only_model": True,
    "data_seed": 0,
}


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_golden_configuration(tmp_path: Path) -> None:
    rendered = swift.render(job(sft("swift"), tmp_path))
    assert json.loads(rendered.files["train.json"]) == GOLDEN
    assert rendered.command == ("-m", "swift.cli.main", "sft", "train.json")
    assert [row["messages"] for row in json.loads(rendered.files["data/train.json"])] == TALKS


def test_bf16_and_recomputation(tmp_path: Path) -> None:
    config = json.loads(swift.render(job(sft("swift", BF16), tmp_path)).files["train.json"])
    recomputed = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
    assert config == GOLDEN | {"bf16": True} | recomputed  # the weights stay float32


def test_fp16_needs_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    this = job(sft("swift", {"compute.precision": "fp16"}), tmp_path)
    with pytest.raises(InvalidRecipeError, match=r"compute\.precision = fp16: needs a GPU; allowed here"):
        swift.render(this)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    config = json.loads(swift.render(this).files["train.json"])
    assert config == GOLDEN | {"fp16": True, "use_cpu": False}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"optimizer.name": "muon"}, "optimizer.name = muon: swift has another one; allowed: adamw"),
        ({"replay": 0.1}, "replay = 0.1: swift cannot express it; allowed: 0.0"),
        ({"optimizer.schedule": "constant", "optimizer.weight_decay": 0}, ""),
        (
            {**BF16, "compute.compile": True},
            "compute.compile = True: swift cannot express it; allowed: False",
        ),
        (BF16, ""),
    ],
)
def test_refusals(changes: dict, line: str) -> None:
    assert swift.refusals(sft("swift", changes)) == ([line] if line else [])


def test_pretraining_and_parallel_degrees_are_refused() -> None:
    (line,) = swift.refusals(pretraining("swift"))
    assert line.startswith("backend.name = swift: used for fine-tuning on messages only; allowed here:")
    with pytest.raises(InvalidRecipeError, match=r"backend\.tensor_parallel = 2: swift cannot express it"):
        SftRecipe.parse({"backend": {"name": "swift", "tensor_parallel": 2}})


def test_a_chat_template_that_is_not_chatml_is_refused(tmp_path: Path) -> None:
    this = job(sft("swift"), tmp_path)
    template = this.tokenizer / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>", "</s>"))
    with pytest.raises(InvalidTrainingDataError, match="not ChatML, the only one that swift is used with"):
        swift.render(this)


@pytest.mark.frameworks
def test_its_own_parser_takes_what_is_written_and_not_what_is_wrong(
    built: Callable[[str], None], tmp_path: Path
) -> None:
    built("swift")
    swift.validate(swift.render(job(sft("swift", BF16), tmp_path / "bf16")))
    rendered = swift.render(job(sft("swift"), tmp_path / "fp32"))
    swift.validate(rendered)  # without the two flags it understands float16
    unknown = {**rendered.files, "train.json": json.dumps({**GOLDEN, "nosuch": 1})}
    with pytest.raises(InvalidRecipeError, match=r"own parser refuses the configuration: .*nosuch"):
        swift.validate(dataclasses.replace(rendered, files=unknown))


@pytest.mark.frameworks
def test_a_run_learns_and_gives_a_checkpoint(built: Callable[[str], None], tmp_path: Path) -> None:
    built("swift")
    report = learns("swift", tmp_path)
    assert all(values["grad_norm"] > 0 for _, values in report.points)


@pytest.mark.frameworks
def test_a_run_in_bf16_with_recomputation_is_near_the_trainers(
    built: Callable[[str], None], tmp_path: Path
) -> None:
    built("swift")
    agrees_in_bf16("swift", tmp_path, tolerance=0.01)
    arguments = json.loads((tmp_path / "theirs/work/out/args.json").read_text())
    assert (arguments["bf16"], arguments["gradient_checkpointing"]) == (True, True)
