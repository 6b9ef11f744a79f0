"""One decoding step for many rows at once, with a key/value cache: the arithmetic below `engine.py`.

`LlamaDecoder` reads the weights of a transformers Llama model and runs them with few, large operators; on a
CPU a small model's time goes into operator overhead, not arithmetic. `ModuleDecoder` runs any causal model
through its own forward pass. `decoder_for` picks one. Rows are padded on the left, so that all rows write the
same cache column. Sampling, stopping and batching are not here.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from codellm_dag.generation.prefix_cache import PrefixCache, RowGroups


class Decoder(Protocol):
    """Decodes a batch of rows; `prefill` starts one, `step` adds a token a row, `keep` drops rows."""

    def prefill(self, tokens: Tensor, padding: Tensor, repeats: int, room: int) -> Tensor:
        """Start a batch: ``tokens`` [n, t] int64 with ``padding`` [n] left pads; every row is then repeated
        `repeats` times, with space for `room` more tokens. Returns logits [n * repeats, vocabulary]."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Append ``tokens`` [rows] int64; returns logits [rows, vocabulary]."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with only ``rows`` (int64 indices into the current rows)."""
        ...


def decoder_for(model: Any) -> Decoder:
    """The fast decoder where the model is a plain Llama, else one that calls the model itself."""
    return LlamaDecoder(model) if _is_plain_llama(model) else ModuleDecoder(model)


def _is_plain_llama(model: Any) -> bool:
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type == "llama"
        and not getattr(config, "attention_bias", False)
        and not getattr(config, "mlp_bias", False)
        and config.hidden_act == "silu"
        and rope.get("rope_type", "default") == "default"
        and type(model).__name__ == "LlamaForCausalLM"
    )


class _Layer:
    """One block's weights, with the projections that share an input fused into one matrix."""

    def __init__(self, block: Any) -> None:
        attention, mlp = block.self_attn, block.mlp
        self.qkv = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
        self.output = attention.o_proj.weight
        self.gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
        self.down = mlp.down_proj.weight
        self.attention_norm = block.input_layernorm.weight
        self.mlp_norm = block.post_attention_layernorm.weight


class LlamaDecoder:
    """A Llama forward pass with a preallocated cache per layer: [rows, kv heads, columns, head size], or a
    `PrefixCache` where several rows continue each prompt.

    Copies the fused weights when built: build a new one after an update of the model.
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_size = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.epsilon = config.rms_norm_eps
        with torch.no_grad():
            self.layers = [_Layer(block) for block in model.model.layers]
        self.embedding = model.model.embed_tokens.weight
        self.norm = model.model.norm.weight
        self.unembedding = model.lm_head.weight
        self.frequencies = model.model.rotary_emb.inv_freq
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.prefixes: list[PrefixCache] = []
        self.owners = torch.empty(0, dtype=torch.long)
        self.groups = RowGroups(0, 0, None, None)
        self.mask = torch.empty(0)
        self.positions = torch.empty(0, dtype=torch.long)
        self.length = 0
        self.column = 0

    @torch.inference_mode()
    def prefill(self, tokens: Tensor, padding: Tensor, repeats: int, room: int) -> Tensor:
        """See `Decoder.prefill`."""
        rows, length = tokens.shape
        columns = length + (room if repeats == 1 else 0)
        shape = (rows, self.kv_heads, columns, self.head_size)
        self.keys = [self.embedding.new_zeros(shape) for _ in self.layers]
        self.values = [self.embedding.new_zeros(shape) for _ in self.layers]
        column = torch.arange(columns)
        visible = column[None, :] >= padding[:, None]
        self.mask = _additive(visible, self.embedding.dtype)[:, None, None, :]
        self.prefixes, self.length = [], length
        self.positions = (length - padding).repeat_interleave(repeats)
        self.column = length
        positions = (column[None, :length] - padding[:, None]).clamp_min(0)
        causal = column[None, :length] <= column[:length, None]
        # A pad sees itself, so that no row of the softmax is empty.
        seen = (visible[:, None, :length] & causal) | torch.eye(length, dtype=torch.bool)
        mask = _additive(seen, self.embedding.dtype)[:, None]
        hidden = self._blocks(tokens, positions, mask)
        if repeats > 1:
            caches = zip(self.keys, self.values, strict=True)
            self.prefixes = [PrefixCache(keys, values, rows * repeats, room) for keys, values in caches]
            self.owners = torch.arange(rows).repeat_interleave(repeats)
            self.groups = RowGroups.of(torch.full((rows,), repeats))
        return self._logits(hidden[:, -1]).repeat_interleave(repeats, 0)

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`."""
        self.column += 1
        mask = self.mask if self.prefixes else self.mask[..., : self.column]
        hidden = self._blocks(tokens[:, None], self.positions[:, None], mask)
        self.positions = self.positions + 1
        return self._logits(hidden[:, -1])

    @torch.inference_mode()
    def keep(self, rows: Tensor) -> None:
        """See `Decoder.keep`."""
        self.positions = self.positions[rows]
        if not self.prefixes:
            self.keys = [key[rows] for key in self.keys]
            self.values = [value[rows] for value in self.values]
            self.mask = self.mask[rows]
            return
        prompts, owners, sizes = self.owners[rows].unique_consecutive(return_inverse=True, return_counts=True)
        gone = len(prompts) < self.groups.prompts
        for prefix in self.prefixes:
            prefix.keep(rows, prompts if gone else None)
        self.mask = self.mask[prompts]
        self.owners, self.groups = owners, RowGroups.of(sizes)

    def _blocks(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """Hidden states [rows, t, width]; writes the t columns that end at ``self.column``."""
        hidden = F.embedding(tokens, self.embedding)
        angles = positions[..., None].to(self.frequencies.dtype) * self.frequencies
        angles = torch.cat([angles, angles], -1)[:, None]
        cosine, sine = angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)
        for index, layer in enumerate(self.layers):
            hidden = hidden + self._attention(index, layer, hidden, cosine, sine, mask)
            normed = _rms_norm(hidden, layer.mlp_norm, self.epsilon)
            gate, up = F.linear(normed, layer.gate_up).chunk(2, -1)
            hidden = hidden + F.linear(F.silu(gate) * up, layer.down)
        return hidden

    def _attention(
        self,
        index: int,
        layer: _Layer,
        hidden: Tensor,
        cosine: Tensor,
        sine: Tensor,
        mask: Tensor,
    ) -> Tensor:
        rows, length, _ = hidden.shape
        normed = _rms_norm(hidden, layer.attention_norm, self.epsilon)
        states = F.linear(normed, layer.qkv).view(rows, length, -1, self.head_size).transpose(1, 2)
        query, key, value = states.split([self.heads, self.kv_heads, self.kv_heads], 1)
        query, key = _rotate(query, cosine, sine), _rotate(key, cosine, sine)
        if self.prefixes:
            done = self.column - self.length - 1
            mixed = self.prefixes[index].attend(
                query[:, :, 0], key[:, :, 0], value[:, :, 0], done, mask, self.groups
            )
            return F.linear(mixed.flatten(1)[:, None], layer.output)
        start = self.column - length
        keys, values = self.keys[index], self.values[index]
        keys[:, :, start : self.column] = key
        values[:, :, start : self.column] = value
        if length == 1 and start:
            key, value = keys[:, :, : self.column], values[:, :, : self.column]
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, enable_gqa=self.heads != self.kv_heads
        )
        return F.linear(mixed.transpose(1, 2).reshape(rows, length, -1), layer.output)

    def _logits(self, hidden: Tensor) -> Tensor:
        return F.linear(_rms_norm(hidden, self.norm, self.epsilon), self.unembedding).float()


def _rms_norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return F.rms_norm(hidden, weight.shape, weight, epsilon)


def _rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    left, right = states.chunk(2, -1)
    return states * cosine + torch.cat([-right, left], -1) * sine


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, torch.finfo(dtype).min)


class ModuleDecoder:
    """Any transformers causal model, through its own forward pass and dynamic cache."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.cache: Any = None
        self.mask = torch.empty(0)
        self.positions = torch.empty(0, dtype=torch.long)

    @torch.inference_mode()
    def prefill(self, tokens: Tensor, padding: Tensor, repeats: int, room: int) -> Tensor:
        """See `Decoder.prefill`; `room` is not needed by a cache that grows."""
        del room
        length = tokens.shape[1]
        column = torch.arange(length)
        mask = (column[None, :] >= padding[:, None]).long()
        positions = (column[None, :] - padding[:, None]).clamp_min(0)
        output = self.model(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=True)
        self.cache = output.past_key_values
        if repeats > 1:
            self.cache.batch_repeat_interleave(repeats)
        self.mask = mask.repeat_interleave(repeats, 0)
        self.positions = (length - padding).repeat_interleave(repeats)
        return output.logits[:, -1].float().repeat_interleave(repeats, 0)

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`."""
        self.mask = F.pad(self.mask, (0, 1), value=1)
        output = self.model(
            input_ids=tokens[:, None],
            attention_mask=self.mask,
            position_ids=self.positions[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.positions = self.positions + 1
        return output.logits[:, -1].float()

    @torch.inference_mode()
    def keep(self, rows: Tensor) -> None:
        """See `Decoder.keep`."""
        self.cache.batch_select_indices(rows)
        self.mask, self.positions = self.mask[rows], self.positions[rows]
