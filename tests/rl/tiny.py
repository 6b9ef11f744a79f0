"""A tiny random Llama for tests."""

from __future__ import annotations

from typing import Any


def tiny_llama(vocabulary: int = 64, seed: int = 0, kv_heads: int = 1) -> Any:
    """A two-layer Llama of width 32 with large random weights, so that outputs differ clearly."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=kv_heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()
