"""The formulas against the tensors that autograd really saves."""

from __future__ import annotations

import pytest
import torch

from codellm_dag.recipes.training import ModelShape
from codellm_dag.scaling.activations import blocks_bytes, layer_bytes, loss_bytes
from codellm_dag.training.architecture import Architecture, of_shape
from codellm_dag.training.model import new_model, target_losses

ROWS, LENGTH, VOCABULARY = 2, 32, 128


def saved_bytes(shape: ModelShape, checkpointing: bool = False, dtype: torch.dtype = torch.float32) -> int:
    """Bytes of all storages that a forward pass keeps, the parameters' own left out."""
    model = new_model(shape, VOCABULARY, 0, 0).to(dtype)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in own:
            kept[address] = tensor  # alive, so that no other storage gets its address
        return tensor

    tokens = torch.randint(0, VOCABULARY, (ROWS, LENGTH))
    positions = torch.arange(LENGTH).repeat(ROWS, 1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        target_losses(model, tokens, positions, tokens, -100).sum()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def shape(layers: int, kv_heads: int) -> ModelShape:
    return ModelShape(hidden_size=64, layers=layers, heads=4, kv_heads=kv_heads, intermediate_size=192)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_a_block_keeps_what_the_formula_says(kv_heads):
    found = saved_bytes(shape(3, kv_heads)) - saved_bytes(shape(2, kv_heads))
    assert layer_bytes(of_shape(shape(1, kv_heads), VOCABULARY), ROWS, LENGTH) == found


def test_a_block_in_bfloat16():
    found = saved_bytes(shape(3, 4), dtype=torch.bfloat16) - saved_bytes(shape(2, 4), dtype=torch.bfloat16)
    expected = layer_bytes(of_shape(shape(1, 4), VOCABULARY), ROWS, LENGTH, width=2)
    assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_a_block_under_autocast(kv_heads):
    found = []
    for layers in (2, 3):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(saved_bytes(shape(layers, kv_heads)))
    model = of_shape(shape(1, kv_heads), VOCABULARY)
    casts = 2 * (model.attention_matrices + model.expert)  # of the block's weights
    assert layer_bytes(model, ROWS, LENGTH, width=2, autocast=True) + casts == found[1] - found[0]


def test_with_checkpointing_a_block_keeps_its_input():
    found = saved_bytes(shape(6, 4), checkpointing=True) - saved_bytes(shape(2, 4), checkpointing=True)
    model = of_shape(shape(6, 4), VOCABULARY)
    one = [blocks_bytes(model, ROWS, LENGTH, layers=layers, checkpointing=True) for layers in (2, 6)]
    assert found <= one[1] - one[0] == 4 * ROWS * LENGTH * 64 * 4


def test_worked_out_by_hand():
    model = Architecture(
        vocabulary=100, hidden=8, layers=2, heads=2, kv_heads=2, head_size=4, intermediate=16
    )
    # 6·8 + 4·8 + 4·16 + t, and 2 + 2 scalars, each of 4 bytes, for 3·10 tokens
    assert layer_bytes(model, 3, 10) == 30 * 4 * (48 + 32 + 64 + 10 + 4)
    assert loss_bytes(model, 3, 10, targets=0.5) == 30 * 4 * 16 + 15 * 4 * (8 + 300)
