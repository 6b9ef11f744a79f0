"""Growing a trained decoder into a larger one: deeper by stacking, or wider without changing its function.

- `stack`: the operator G_stack of Du et al. 2024 (arXiv:2405.15319): all layers, in order, `factor` times.
The function changes; the larger model is trained on.
- `widen`: Net2WiderNet (Chen et al. 2016, arXiv:1511.05641) for every width at once, as bert2BERT (Chen et
al. 2022, arXiv:2110.07143) does for transformers: hidden size, heads and SwiGLU width times `factor`. Each
unit is repeated, and a column that reads it is split among the copies in uneven parts that sum to 1, so that
the copies do not learn alike (Wang et al. 2023, LEMON, arXiv:2310.07999). The function stays the same.

The optimizer starts anew: nothing but weights is grown (Du et al. 2024, algorithm 2). Llama-style models of
transformers without biases; RMSNorm's mean square does not change when every unit is repeated.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from codellm_dag.training.architecture import Architecture

METHODS = ("stack", "widen")
_LAYER = re.compile(r"^(model\.layers\.)(\d+)(\..*)$")


def grow(model: Any, method: str, factor: int, seed: int) -> Any:
    """`model` grown by `method` (one of `METHODS`); `seed` draws the uneven parts. Raises ValueError."""
    if method not in METHODS or factor < 2:
        raise ValueError(f"method = {method!r}, factor = {factor}: allowed: {', '.join(METHODS)}; at least 2")
    return stack(model, factor) if method == "stack" else widen(model, factor, seed)


def grown_architecture(small: Architecture, method: str, factor: int) -> Architecture:
    """The sizes of what `grow` makes of a model of sizes `small`."""
    if method == "stack":
        return replace(small, layers=small.layers * factor)
    names = ("hidden", "intermediate", "heads", "kv_heads")
    return replace(small, **{name: getattr(small, name) * factor for name in names})


def stack(model: Any, factor: int) -> Any:
    """A model of `factor` times the layers: layer i is layer ``i mod n`` of the n of `model`."""
    layers = model.config.num_hidden_layers
    grown = _larger(model, num_hidden_layers=layers * factor)
    weights = {}
    for name, value in model.state_dict().items():
        match = _LAYER.match(name)
        if not match:
            weights[name] = value
            continue
        for copy in range(factor):
            weights[f"{match[1]}{copy * layers + int(match[2])}{match[3]}"] = value
    grown.load_state_dict(weights)
    return grown


def widen(model: Any, factor: int, seed: int) -> Any:
    """A model of `factor` times the width and heads that computes the same, up to rounding."""
    config = model.config
    grown = _larger(
        model,
        hidden_size=config.hidden_size * factor,
        intermediate_size=config.intermediate_size * factor,
        num_attention_heads=config.num_attention_heads * factor,
        num_key_value_heads=config.num_key_value_heads * factor,
        head_dim=config.hidden_size // config.num_attention_heads,
    )
    draw = torch.Generator().manual_seed(seed)
    tied = config.tie_word_embeddings
    weights = {}
    for name, value in model.state_dict().items():
        if name.endswith("embed_tokens.weight") or (name.startswith("lm_head") and tied):
            weights[name] = value.repeat(1, factor)
        elif name.startswith("lm_head"):
            weights[name] = _split(value, factor, draw)
        elif value.ndim == 1:
            # A tied output matrix reads every copy whole, so the last norm gives each its share.
            share = 1 / factor if tied and name == "model.norm.weight" else 1.0
            weights[name] = value.repeat(factor) * share
        else:
            weights[name] = _split(value, factor, draw).repeat(factor, 1)
    grown.load_state_dict(weights)
    return grown


def _split(matrix: Tensor, factor: int, draw: torch.Generator) -> Tensor:
    """[rows, columns] → [rows, factor · columns]: every column in uneven parts that sum to it."""
    parts = 0.5 + torch.rand(factor, matrix.shape[1], generator=draw)
    parts = (parts / parts.sum(0)).to(matrix)
    return torch.cat([matrix * part for part in parts], dim=1)


def _larger(model: Any, **sizes: int) -> Any:
    """A new model of the same class with other sizes."""
    values = {**model.config.to_dict(), **sizes}
    config = type(model.config)(**values)
    config._attn_implementation = model.config._attn_implementation
    return type(model)(config).to(next(model.parameters()))
