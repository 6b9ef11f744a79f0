"""The sizes of a decoder and its parameter counts, dense or mixture of experts.

Counts are exact for the Hugging Face classes of `KNOWN_TYPES`; `tests/training/test_architecture.py` compares
them with published counts and with the classes themselves. No weights are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.training import ModelShape

KNOWN_TYPES = ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe")
"""Values of ``model_type`` in config.json that `of_config` reads."""


@dataclass(frozen=True)
class Architecture:
    """A decoder with RMSNorm, rotary positions, SwiGLU and grouped-query attention.

    ``intermediate``: width of the SwiGLU layer, of each expert where ``experts`` > 0. ``qkv_bias``: biases
    of query, key and value (Qwen2); ``qk_norm``: RMSNorm of each head's query and key (Qwen3).
    """

    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    tied: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False
    experts: int = 0
    experts_per_token: int = 0

    @property
    def attention_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_size

    @property
    def kv_width(self) -> int:
        """Width of all key heads together; that of values is the same."""
        return self.kv_heads * self.head_size

    @property
    def embedding(self) -> int:
        """Parameters of one embedding matrix."""
        return self.vocabulary * self.hidden

    @property
    def attention_matrices(self) -> int:
        """Parameters of query, key, value and output matrices of one layer."""
        return 2 * self.hidden * self.attention_width + 2 * self.hidden * self.kv_width

    @property
    def expert(self) -> int:
        """Parameters of one SwiGLU layer: gate, up and down."""
        return 3 * self.hidden * self.intermediate

    @property
    def layer(self) -> int:
        """Parameters of one block, all experts, the router, norms and biases counted."""
        vectors = 2 * self.hidden
        vectors += (self.attention_width + 2 * self.kv_width) * self.qkv_bias
        vectors += 2 * self.head_size * self.qk_norm
        router = self.hidden * self.experts
        return self.attention_matrices + router + self.expert * max(1, self.experts) + vectors

    @property
    def parameters(self) -> int:
        """All parameters; a tied embedding counts once."""
        return self.layers * self.layer + self.hidden + self.embedding * (1 if self.tied else 2)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token uses: of a mixture of experts only the chosen experts."""
        idle = max(1, self.experts) - (self.experts_per_token if self.experts else 1)
        return self.parameters - self.layers * idle * self.expert

    @property
    def matrix_parameters(self) -> int:
        """Parameters of the matrices that one token is multiplied with: blocks and output matrix.

        The input embedding is a look-up, norms and biases are vectors: neither counts.
        """
        used = self.experts_per_token if self.experts else 1
        block = self.attention_matrices + self.hidden * self.experts + used * self.expert
        return self.layers * block + self.embedding


def of_shape(shape: ModelShape, vocabulary: int) -> Architecture:
    """The architecture that `training.model.new_model` builds from a recipe's shape."""
    return Architecture(
        vocabulary=vocabulary,
        hidden=shape.hidden_size,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_size=shape.hidden_size // shape.heads,
        intermediate=shape.intermediate_size,
        tied=shape.tie_embeddings,
        qk_norm=shape.experts > 0,
        experts=shape.experts,
        experts_per_token=shape.experts_per_token,
    )


def of_config(config: Any) -> Architecture:
    """The architecture of a Hugging Face config: an object, or config.json as a mapping.

    Raises InvalidRecipeError for a ``model_type`` whose parameters are not known here.
    """
    values = config if isinstance(config, dict) else config.to_dict()
    kind = values.get("model_type")
    if kind not in KNOWN_TYPES:
        raise InvalidRecipeError(f"model_type = {kind!r}: allowed: {', '.join(KNOWN_TYPES)}")
    for field in ("attention_bias", "mlp_bias"):
        if values.get(field):
            raise InvalidRecipeError(f"{field} = true: sizes are known for models without it")
    sparse = kind == "qwen3_moe"
    if sparse and (values.get("decoder_sparse_step", 1) != 1 or values.get("mlp_only_layers")):
        raise InvalidRecipeError("mlp_only_layers, decoder_sparse_step: every layer must have experts")
    heads = values["num_attention_heads"]
    return Architecture(
        vocabulary=values["vocab_size"],
        hidden=values["hidden_size"],
        layers=values["num_hidden_layers"],
        heads=heads,
        kv_heads=values.get("num_key_value_heads") or heads,
        head_size=values.get("head_dim") or values["hidden_size"] // heads,
        intermediate=values["moe_intermediate_size" if sparse else "intermediate_size"],
        tied=bool(values.get("tie_word_embeddings", False)),
        qkv_bias=kind == "qwen2",
        qk_norm=kind in ("qwen3", "qwen3_moe"),
        experts=int(values.get("num_experts") or values["num_local_experts"]) if sparse else 0,
        experts_per_token=values["num_experts_per_tok"] if sparse else 0,
    )
