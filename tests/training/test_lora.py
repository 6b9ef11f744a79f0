"""Adapters: only they are trained, the checkpoint is the merged model, and a killed run goes on exactly."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.recipes.training_options import Lora
from codellm_dag.stages.protocol import Inputs, Stopped
from codellm_dag.training import sft_checkpoint
from codellm_dag.training.lora import with_adapters
from tests.modelkit.tiny import RecordingReport, tiny_llama
from tests.training.test_sft_checkpoint import RECIPE as FULL
from tests.training.test_sft_checkpoint import run

LORA = Lora(rank=4, alpha=8.0)
RECIPE = FULL.with_changes({"lora": LORA.model_dump(), "optimizer.name": "adamw", "epochs": 6})


def test_without_peft_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InvalidRecipeError, match=r"lora.rank = 4: needs the package 'peft'"):
        with_adapters(tiny_llama(), LORA, 0)


def test_peft_is_part_of_the_fingerprint_of_adapters_alone() -> None:
    assert "peft" not in SftRecipe().chosen_packages()
    assert "peft" in SftRecipe.parse({"lora": {"rank": 8}}).chosen_packages()


def test_new_adapters_change_nothing_and_alone_are_trained() -> None:
    import torch

    from codellm_dag.training.model import target_losses

    tokens = torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(16).expand(2, 16)
    before = target_losses(tiny_llama(), tokens, positions, tokens, -100)
    model = with_adapters(tiny_llama(), LORA, seed=3)
    assert torch.equal(target_losses(model, tokens, positions, tokens, -100), before)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    # two matrices beside each of seven in each of two blocks; none at the embeddings
    assert len(trained) == 2 * 7 * 2
    assert all("lora_" in name for name in trained)
    again = with_adapters(tiny_llama(), LORA, seed=3).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


def test_the_checkpoint_is_the_merged_model(slots: dict[str, Any], tmp_path: Path) -> None:
    import torch
    from peft import PeftModel  # pyright: ignore[reportMissingImports]
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    report, out, start = run(RECIPE, slots, tmp_path / "one"), tmp_path / "one/out", slots["checkpoint"].path
    assert report.metrics["loss_last"] < report.metrics["loss_first"]
    weights, base = load_file(out / "model.safetensors"), load_file(start / "model.safetensors")
    assert weights.keys() == base.keys()
    changed = {name for name in weights if not torch.equal(weights[name], base[name])}
    assert changed == {name for name in weights if name.endswith("proj.weight")}
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    by_adapter = PeftModel.from_pretrained(model, out / "adapter").merge_and_unload().state_dict()
    assert all(torch.allclose(by_adapter[name], weights[name], atol=1e-6) for name in weights)
    assert str(slots["checkpoint"].path) not in (out / "adapter/adapter_config.json").read_text()
    run(RECIPE, slots, tmp_path / "two")
    names = [path.relative_to(out) for path in sorted(out.rglob("*")) if path.is_file()]
    assert all((tmp_path / "two/out" / name).read_bytes() == (out / name).read_bytes() for name in names)


def test_adapters_resume_exactly(slots: dict[str, Any], tmp_path: Path) -> None:
    recipe = RECIPE.with_changes({"lora.dropout": 0.2})  # draws from the random state
    expected = run(recipe, slots, tmp_path / "whole")
    assert expected.points != run(RECIPE, slots, tmp_path / "other").points
    out = tmp_path / "stopped/out"
    out.mkdir(parents=True)
    report = RecordingReport(tmp_path / "stopped/resume")
    report.stop_requested = lambda: len(report.points) >= 3
    with pytest.raises(Stopped):
        sft_checkpoint.run(recipe, Inputs(slots), out, report)
    saved = next((tmp_path / "stopped/resume").glob("checkpoint-*"))
    assert "model.safetensors" not in {path.name for path in saved.iterdir()}, "adapters alone are saved"
    resumed = RecordingReport(tmp_path / "stopped/resume")
    sft_checkpoint.run(recipe, Inputs(slots), out, resumed)
    assert resumed.messages == ["resuming from checkpoint-4"]
    assert resumed.points == expected.points
    weights = [(folder / "model.safetensors").read_bytes() for folder in (out, tmp_path / "whole/out")]
    assert weights[0] == weights[1]
