"""FLOPs against PyTorch's own counter and against PaLM's published arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from codellm_dag.recipes.training import ModelShape
from codellm_dag.training.architecture import Architecture, of_shape
from codellm_dag.training.flops import training_flops_per_token, utilization
from codellm_dag.training.model import new_model


def test_pytorchs_counter_agrees():
    shape = ModelShape(hidden_size=32, layers=2, heads=4, kv_heads=4, intermediate_size=64)
    model = new_model(shape, 48, 0, 0)
    model.config._attn_implementation = "eager"  # the counter sees the two products as they are
    tokens = torch.zeros(3, 16, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens).logits.sum().backward()
    expected = training_flops_per_token(of_shape(shape, 48), 16) * tokens.numel()
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)  # rotary angles are a product too


def test_worked_out_by_hand():
    model = Architecture(vocabulary=10, hidden=4, layers=2, heads=2, kv_heads=1, head_size=2, intermediate=6)
    # A block: q 16, k 8, v 8, o 16, three matrices of 24; the output matrix has 40.
    assert training_flops_per_token(model, 5) == 6 * (2 * (48 + 72) + 40) + 12 * 2 * 4 * 5


def test_utilization():
    # PaLM, section 4.1: 238.3 thousand tokens a second on 6144 TPU v4 of 275 TFLOP/s is 46.2 % MFU.
    layers, heads, head_size, length = 118, 48, 256, 2048
    per_token = 6 * 540.35e9 + 12 * layers * heads * head_size * length
    assert utilization(238.3e3, per_token, 6144, 275e12) == pytest.approx(0.462, abs=0.005)
