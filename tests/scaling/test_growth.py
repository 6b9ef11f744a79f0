"""A widened model computes the same, a stacked one repeats its layers, and both learn."""

from __future__ import annotations

import json

import pytest
import torch

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.scaling import GrowthRecipe
from codellm_dag.recipes.training import ModelShape
from codellm_dag.scaling import model_growth
from codellm_dag.scaling.growth import grow, stack, widen
from codellm_dag.scaling.model_growth import tokens_to
from codellm_dag.stages.protocol import Inputs
from codellm_dag.training.model import new_model
from tests.modelkit.tiny import RecordingReport

TOKENS = torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(1))


def model(tied: bool = True, kv_heads: int = 2):
    shape = ModelShape(
        hidden_size=16,
        layers=2,
        heads=4,
        kv_heads=kv_heads,
        intermediate_size=24,
        tie_embeddings=tied,
        initializer_range=0.3,
    )
    return new_model(shape, 50, 0, 0)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("factor", [2, 3])
def test_a_widened_model_computes_the_same(tied, kv_heads, factor):
    small = model(tied, kv_heads)
    wide = widen(small, factor, seed=5)
    assert wide.config.hidden_size == 16 * factor
    assert wide.config.num_key_value_heads == kv_heads * factor
    with torch.no_grad():
        expected, found = small(TOKENS).logits, wide(TOKENS).logits
    assert found == pytest.approx(expected, abs=2e-4)
    assert expected.abs().max() > 1  # the outputs are not all but zero


def test_copies_of_a_unit_do_not_learn_alike():
    wide = widen(model(), 2, seed=5)
    wide(TOKENS, labels=TOKENS).loss.backward()
    gradient = wide.model.layers[0].mlp.gate_proj.weight.grad
    assert not torch.allclose(gradient[:24], gradient[24:], rtol=1e-3)


def test_a_stacked_model_repeats_its_layers():
    small = model()
    deep = stack(small, 3)
    assert deep.config.num_hidden_layers == 6
    for number, layer in enumerate(deep.model.layers):
        for name, value in layer.state_dict().items():
            assert torch.equal(value, small.model.layers[number % 2].state_dict()[name])
    assert torch.equal(deep.model.embed_tokens.weight, small.model.embed_tokens.weight)
    with torch.no_grad():  # by hand: the small model's blocks run three times
        hidden = small.model.embed_tokens(TOKENS)
        angles = small.model.rotary_emb(hidden, torch.arange(12)[None])
        for _ in range(3):
            for layer in small.model.layers:
                hidden = layer(hidden, position_embeddings=angles, attention_mask=None)
        expected = small.lm_head(small.model.norm(hidden))
        assert deep(TOKENS).logits == pytest.approx(expected, abs=2e-4)


def test_tokens_to_a_loss_lie_on_the_line_between_measurements():
    curve = [(0.0, 4.0), (100.0, 2.0), (200.0, 1.0)]
    assert tokens_to(curve, 3.0) == 50
    assert tokens_to(curve, 1.0) == 200
    assert tokens_to(curve, 5.0) == 0
    assert tokens_to(curve, 0.5) is None


def test_a_comparison(ladder_inputs, tmp_path):
    recipe = GrowthRecipe.parse(
        {
            "model": {"hidden_size": 16, "layers": 1, "heads": 1, "kv_heads": 1, "intermediate_size": 32},
            "optimizer": {"learning_rate": 0.01},
            "global_rows": 2,
            "small_tokens": 4096,
            "tokens": 2048,
            "evaluate_every": 1024,
            "evaluation_rows": 8,
            "warmup_steps": 2,
        }
    )
    report = RecordingReport(tmp_path)
    model_growth.run(recipe, Inputs({"shards/python": ladder_inputs["shards"]}), tmp_path, report)
    found = json.loads((tmp_path / "report.json").read_text())
    stacked, widened = found["methods"]
    assert [tokens for tokens, _ in stacked["grown"]] == [4096, 5120, 6144]
    assert [tokens for tokens, _ in stacked["scratch"]] == [0, 1024, 2048]
    assert widened["grown"][0][1] == pytest.approx(found["small"][-1][1], rel=1e-3)  # the function is kept
    assert widened["grown"][0][1] < widened["scratch"][-1][1]  # and was trained for twice the tokens
    assert widened["grown_tokens"] == 4096
    assert widened["tokens_ratio"] == pytest.approx(4096 / 2048)
    assert report.metrics["widen_flops_ratio"] < widened["tokens_ratio"]  # the small model's tokens cost less


def test_bad_input():
    with pytest.raises(ValueError, match="method = 'fold', factor = 2: allowed: stack, widen"):
        grow(model(), "fold", 2, 0)
    with pytest.raises(InvalidRecipeError, match="evaluate_every=5 must be at most tokens=4"):
        GrowthRecipe.parse({"tokens": 4, "evaluate_every": 5})
    experts = {
        "hidden_size": 16,
        "layers": 1,
        "heads": 1,
        "kv_heads": 1,
        "experts": 4,
        "experts_per_token": 2,
    }
    with pytest.raises(InvalidRecipeError, match="experts=4 must be 0: only dense models are grown"):
        GrowthRecipe.parse({"model": experts})
