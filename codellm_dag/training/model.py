"""The model that pretraining starts from, and what its forward pass needs for packed rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from codellm_dag.recipes.training import ModelShape


def new_model(shape: ModelShape, vocabulary_size: int, end_of_text: int, seed: int) -> Any:
    """A Llama, or with experts a Qwen3-MoE, with weights drawn from `seed`: float32, in training mode."""
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

    common = {
        "vocab_size": vocabulary_size,
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.maximum_positions,
        "initializer_range": shape.initializer_range,
        "tie_word_embeddings": shape.tie_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "bos_token_id": None,
        "eos_token_id": end_of_text,
        "pad_token_id": end_of_text,
        "attn_implementation": "sdpa",
    }
    torch.manual_seed(seed)
    if not shape.experts:
        return LlamaForCausalLM(LlamaConfig(**common))
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            **common,
            head_dim=shape.hidden_size // shape.heads,  # pyright: ignore[reportCallIssue]
            num_experts=shape.experts,
            num_experts_per_tok=shape.experts_per_token,
            moe_intermediate_size=shape.intermediate_size,
            norm_topk_prob=True,
            router_aux_loss_coef=shape.router_auxiliary_loss,
        )
    )


def visible(positions: Tensor) -> Tensor:
    """Bool [rows, 1, t, t]: which token (last axis) a token (third) may see, from ``positions`` [rows, t].

    A position of 0 starts a piece; a token sees the tokens of its own piece up to itself.
    """
    piece = (positions == 0).cumsum(1)
    length = positions.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=positions.device).tril()
    return ((piece[:, :, None] == piece[:, None, :]) & causal)[:, None]


def causal_model(model: Any) -> Any:
    """The Hugging Face model itself, where adapters are wrapped around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


class RouterBalance(NamedTuple):
    """Losses of targets, float32 [n], and the sum over rows of the router's load-balancing loss."""

    targets: Tensor
    balance: Tensor


def target_losses(model: Any, tokens: Tensor, positions: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Cross entropy in nats of every target that is not `ignored`, float32 [n], row after row.

    ``tokens``, ``positions``, ``targets``: int64 [rows, t]. The output matrix is applied where there is a
    target only: with loss on answers alone that is a small part of a row.
    """
    losses = packed_losses(model, tokens, positions, targets, ignored)
    return losses.targets if isinstance(losses, RouterBalance) else losses


def packed_losses(
    model: Any, tokens: Tensor, positions: Tensor, targets: Tensor, ignored: int
) -> Tensor | RouterBalance:
    """`target_losses`, and of a mixture of experts that is to be balanced the router's loss too."""
    causal = causal_model(model)
    balanced = getattr(causal.config, "router_aux_loss_coef", 0.0) > 0.0
    more = {"output_router_logits": True} if balanced else {}
    output = causal.base_model(
        input_ids=tokens, position_ids=positions, attention_mask=visible(positions), use_cache=False, **more
    )
    learnt = targets != ignored
    logits = causal.get_output_embeddings()(output.last_hidden_state[learnt])
    losses = torch.nn.functional.cross_entropy(logits.float(), targets[learnt], reduction="none")
    if not balanced:
        return losses
    router = torch.stack([layer.float().view(*tokens.shape, -1) for layer in output.router_logits])
    return RouterBalance(losses, load_balance(router, causal.config.num_experts_per_tok).sum())


def load_balance(logits: Tensor, chosen: int) -> Tensor:
    """The load-balancing loss of each row, [rows], the mean over layers; `chosen` experts see each token.

    ``logits``: [layers, rows, t, experts]. Fedus et al. 2022, equations 4 to 6: experts times the sum of the
    share of tokens an expert gets times its mean probability; `chosen` where all get the same. By row, as in
    DeepSeek-V3's loss of a sequence, so that it does not depend on how a batch is cut; padding counts.
    """
    probabilities = logits.softmax(-1)
    experts = logits.shape[-1]
    sent = torch.nn.functional.one_hot(probabilities.topk(chosen, -1).indices, experts).sum(-2)
    return experts * (sent.float().mean(2) * probabilities.mean(2)).sum(-1).mean(0)


class TargetLosses(torch.nn.Module):
    """`packed_losses` as the forward pass of a module, which is what DistributedDataParallel wraps."""

    def __init__(self, model: Any, ignored: int) -> None:
        super().__init__()
        self.model = model
        self.ignored = ignored

    def forward(self, tokens: Tensor, positions: Tensor, targets: Tensor) -> Tensor | RouterBalance:
        return packed_losses(self.model, tokens, positions, targets, self.ignored)
