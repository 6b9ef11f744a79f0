"""The model that pretraining starts from, and what its forward pass needs for packed rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from codellm_dag.recipes.training import ModelShape


def new_model(shape: ModelShape, vocabulary_size: int, end_of_text: int, seed: int) -> Any:
    """A Llama with random weights, drawn from `seed`: float32, in training mode."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.maximum_positions,
        initializer_range=shape.initializer_range,
        tie_word_embeddings=shape.tie_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        bos_token_id=None,
        eos_token_id=end_of_text,
        pad_token_id=end_of_text,
        attn_implementation="sdpa",  # pyright: ignore[reportCallIssue]
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def visible(positions: Tensor) -> Tensor:
    """Bool [rows, 1, t, t]: which token (last axis) a token (third) may see, from ``positions`` [rows, t].

    A position of 0 starts a piece; a token sees the tokens of its own piece up to itself.
    """
    piece = (positions == 0).cumsum(1)
    length = positions.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=positions.device).tril()
    return ((piece[:, :, None] == piece[:, None, :]) & causal)[:, None]


def target_losses(model: Any, tokens: Tensor, positions: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Cross entropy in nats of every target that is not `ignored`, float32 [n], row after row.

    ``tokens``, ``positions``, ``targets``: int64 [rows, t]. The output matrix is applied where there is a
    target only: with loss on answers alone that is a small part of a row.
    """
    hidden = model.base_model(
        input_ids=tokens, position_ids=positions, attention_mask=visible(positions), use_cache=False
    ).last_hidden_state
    learnt = targets != ignored
    logits = model.get_output_embeddings()(hidden[learnt])
    return torch.nn.functional.cross_entropy(logits.float(), targets[learnt], reduction="none")


class TargetLosses(torch.nn.Module):
    """`target_losses` as the forward pass of a module, which is what DistributedDataParallel wraps."""

    def __init__(self, model: Any, ignored: int) -> None:
        super().__init__()
        self.model = model
        self.ignored = ignored

    def forward(self, tokens: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        return target_losses(self.model, tokens, positions, targets, self.ignored)
