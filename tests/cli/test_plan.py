"""``plan`` says what a training run needs, and refuses bad input with one clear message."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from codellm_dag.cli.app import app

SFT = [
    "sft_checkpoint",
    *("--model", "qwen2.5-coder-14b", "--devices", "64", "--device", "h100-80gb", "--precision", "bf16"),
    *("--sequence-length", "4096", "--set", "sft_checkpoint.batch.global_rows=64"),
    *("--set", "sft_checkpoint.optimizer.name=adamw", "--gradient-checkpointing"),
]


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Run the command on an empty store: (exit code, output, errors)."""
    for name in ("COLUMNS", "FORCE_COLOR", "CODELLM_PRESET"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments):
        words = ["plan", *arguments, "--store", str(tmp_path / "store")]
        result = CliRunner().invoke(app, words)
        return result.exit_code, result.stdout, result.stderr

    return run


def test_the_laptops_pretraining(plan, tmp_path):
    code, out, err = plan("pretrained_checkpoint")
    assert (code, err) == (0, "")
    # 2048 entries and four blocks of width 128 with a SwiGLU layer of 384; 195 steps of 16 rows of 256 tokens
    parameters = 2048 * 128 + 4 * (4 * 128**2 + 3 * 128 * 384 + 256) + 128
    assert f"{parameters:,}" in out
    assert "800,000 in 195 steps" in out
    assert not (tmp_path / "store").exists()


def test_json(plan):
    code, out, _ = plan(*SFT, "--tokens", "100000000", "--price", "2.5", "--json")
    answer = json.loads(out)
    assert (code, answer["schema_version"]) == (0, 1)
    (sizes,) = answer["sizes"]
    assert sizes.keys() == {
        *("stage", "parameters", "active_parameters", "sequence_length", "global_rows", "micro_rows"),
        *("accumulation", "precision", "optimizer", "devices", "device", "mfu", "tokens", "steps"),
        *("flops_per_token", "flops", "hours", "device_hours", "cost", "weights_bytes", "resume_bytes"),
        *("strategies", "advice"),
    }
    assert sizes["advice"] is None
    assert sizes["parameters"] == 14_770_033_664
    assert sizes["steps"] == 100_000_000 // (64 * 4096)
    assert sizes["cost"] == pytest.approx(sizes["device_hours"] * 2.5)
    fits = {one["strategy"]: one["fits"] for one in sizes["strategies"]}
    assert (fits["ddp"], fits["zero3"], fits["fsdp"]) == (False, True, True)


NOTHING = [
    *("sft_checkpoint", "--model", "llama-2-7b", "--device", "rtx4090-24gb"),
    *("--set", "sft_checkpoint.optimizer.name=adamw"),
]


def test_nothing_fits_and_what_would(plan):
    code, out, err = plan(*NOTHING)
    assert code == 1
    assert "too much" in out
    assert "Nothing fits. Nearest is zero3_offload, " in err
    options = [line.partition(":")[0].strip() for line in err.splitlines() if line.startswith("  --")]
    assert options == ["--micro-rows 4", "--gradient-checkpointing", "--devices 8 --micro-rows 1"]


def test_the_words_of_an_advice_are_true(plan):
    """Each remedy's options, typed behind the command, make it fit with the strategy and size it names."""
    code, out, _ = plan(*NOTHING, "--json")
    advice = json.loads(out)["sizes"][0]["advice"]
    assert (code, advice["nearest"], advice["closest"]) == (1, "zero3_offload", None)
    assert len(advice["remedies"]) == 3
    for remedy in advice["remedies"]:
        code, out, _ = plan(*NOTHING, *remedy["options"].split(), "--json")
        (sizes,) = json.loads(out)["sizes"]
        fits = {one["strategy"]: one["resident"] for one in sizes["strategies"] if one["fits"]}
        assert (code, sizes["advice"]) == (0, None)
        assert fits[remedy["strategy"]] == remedy["resident"]
    code, _, _ = plan(*NOTHING, "--memory", str(advice["device_memory"] / 1e9))
    assert code == 0


def test_nothing_would_make_it_fit(plan):
    code, _, err = plan("pretrained_checkpoint", "--memory", "0.01")
    assert (code, "are not enough. Closest is" in err) == (1, True)
    closest = err.splitlines()[-1]
    assert closest.startswith("  --devices 16 --micro-rows 1 --gradient-checkpointing")
    assert closest.endswith("too much for a device")


def test_a_config_file(plan, tmp_path):
    config = {
        "model_type": "qwen2",
        "vocab_size": 100,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    code, out, _ = plan("pretrained_checkpoint", "--model", str(tmp_path), "--json")
    assert code == 0
    expected = 2 * 1600 + 4 * 256 + 3 * 16 + 3 * 512 + 3 * 16
    assert json.loads(out)["sizes"][0]["parameters"] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["mixture"],
            "the sizes of 'mixture' are not planned; allowed: pretrained_checkpoint, sft_checkpoint",
        ),
        (["laptop"], "'laptop' is a preset: --recipe laptop"),
        (["pretrained_checkpoint", "--device", "h9"], "--device 'h9': allowed: cpu, v100-32gb"),
        (["pretrained_checkpoint", "--devices", "3"], "--devices 3: must divide batch.global_rows = 16"),
        (["pretrained_checkpoint", "--model", "gpt-5"], "--model 'gpt-5':"),
        (
            ["sft_checkpoint", "--set", "sft_checkpoint.lora.rank=8"],
            "sft_checkpoint.lora.rank = 8: adapters are not planned; allowed: 0",
        ),
        (
            ["sft_checkpoint", "--set", "sft_checkpoint.base=base_checkpoint"],
            "sft_checkpoint.base = 'base_checkpoint': an outside model's sizes are not in the recipe",
        ),
        (["pretrained_checkpoint", "--precision", "fp8"], "precision = 'fp8': allowed: fp32, bf16, fp16"),
    ],
)
def test_bad_input(plan, words, message):
    code, out, err = plan(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
