"""Parameter counts against published ones and against the classes of transformers."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.training import ModelShape
from codellm_dag.training.architecture import Architecture, of_config, of_shape
from codellm_dag.training.model import new_model

LLAMA_2_7B = Architecture(32_000, 4096, 32, 32, 32, 128, 11_008)


def config(kind: str, **more):
    small = {
        "vocab_size": 96,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "tie_word_embeddings": False,
    }
    return AutoConfig.for_model(kind, **(small | more))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "head_dim": 16}),
        ("mistral", {"head_dim": 8}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 16}),
        (
            "qwen3_moe",
            {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "head_dim": 8},
        ),
    ],
)
def test_the_classes_of_transformers(kind, more):
    chosen = config(kind, **more)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(chosen)
    assert of_config(chosen).parameters == sum(p.numel() for p in model.parameters())


def test_the_trainers_own_model():
    shape = ModelShape(hidden_size=24, layers=2, heads=3, kv_heads=1, intermediate_size=40)
    model = new_model(shape, 50, 0, 0)
    assert of_shape(shape, 50).parameters == sum(p.numel() for p in model.parameters())


def test_published_counts():
    # The counts that the model cards' safetensors headers state.
    assert LLAMA_2_7B.parameters == 6_738_415_616
    assert Architecture(32_000, 2048, 22, 32, 4, 64, 5632).parameters == 1_100_048_384  # TinyLlama 1.1B


def test_active_parameters_leave_out_idle_experts():
    sparse = Architecture(10, 4, 2, 1, 1, 4, 8, experts=8, experts_per_token=2)
    assert sparse.parameters - sparse.active_parameters == 2 * 6 * (3 * 4 * 8)
    assert LLAMA_2_7B.active_parameters == LLAMA_2_7B.parameters


def test_unknown_models_are_refused():
    with pytest.raises(InvalidRecipeError, match="model_type = 'gpt2': allowed: llama, mistral"):
        of_config({"model_type": "gpt2"})
    with pytest.raises(InvalidRecipeError, match="attention_bias = true"):
        of_config(config("llama", attention_bias=True))
