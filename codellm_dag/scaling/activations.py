"""What the backward pass needs of a forward pass, in bytes, for the trainer's own model and loss.

Counted in the way of Korthikanti et al. 2022 (Reducing Activation Recomputation in Large Transformer Models,
section 4), for a block with RMSNorm, rotary positions, SwiGLU and an attention kernel that keeps no scores.
Per token a block keeps, with h the width, a that of all query heads, f the SwiGLU layer's, t a row's tokens:

- both norms: their input, its normalized form and the output: 6 h
- attention: queries, keys and values of every head (repeated for grouped queries), and the output: 4 a
- SwiGLU: gate, its activation, up, and their product: 4 f
- the kernel's own mask, added to the scores, one for all heads: t

and the log-sum of each head and the two norms' scales. With gradient checkpointing a block keeps its input,
h, and one block at a time has the rest. After the blocks: the last norm (2 h); of each target its hidden
state (h) and, at the height of the loss, three rows of the vocabulary in float32: log-probabilities and the
gradients on both sides of them. `tests/scaling/test_activations.py` counts the saved tensors of real models.
"""

from __future__ import annotations

from codellm_dag.training.architecture import Architecture

FLOAT = 4
"""Bytes of float32."""
LOSS_ROWS = 3
"""Rows of the vocabulary that a target takes at the height of the loss."""


def layer_bytes(
    model: Architecture, rows: int, length: int, width: int = FLOAT, autocast: bool = False
) -> int:
    """What one block keeps of `rows` rows of `length` tokens, with values of `width` bytes.

    Below float32 the norms still compute in it: their input is kept in float32, the rest in `width`. With
    `autocast` the weights and the residual stream are float32: both forms of a norm's input are kept so, and
    each of the five matrices that read a norm keeps a cast of its own.
    Each token of a mixture of experts passes ``experts_per_token`` of them.
    """
    experts = model.experts_per_token if model.experts else 1
    # A norm keeps its input in float32; a copy where the block's own values are narrower.
    norms = 2 * model.hidden * (FLOAT + 2 * width)
    if autocast:
        norms = model.hidden * (4 * FLOAT + 5 * width)
    repeated = model.kv_width if model.kv_heads == 1 else model.attention_width  # one head is only viewed
    attention = 2 * (model.attention_width + repeated) * width + length * width
    swiglu = 4 * model.intermediate * experts * width
    scalars = (model.heads + 2) * FLOAT
    return rows * length * (norms + attention + swiglu + scalars)


def layer_gradient_bytes(model: Architecture, rows: int, length: int, width: int = FLOAT) -> int:
    """The gradients that are alive at once while a block goes backward: three of the SwiGLU layer's width
    and two of the residual's.
    """
    experts = model.experts_per_token if model.experts else 1
    return rows * length * (3 * model.intermediate * experts + 2 * model.hidden) * width


def blocks_bytes(
    model: Architecture,
    rows: int,
    length: int,
    *,
    layers: int,
    checkpointing: bool = False,
    width: int = FLOAT,
    autocast: bool = False,
) -> int:
    """What `layers` blocks keep together when the backward pass begins, and the batch's mask (1 byte)."""
    mask = rows * length * length
    one = layer_bytes(model, rows, length, width, autocast)
    if checkpointing:
        kept = FLOAT if autocast else width
        return mask + layers * rows * length * model.hidden * kept + one
    return mask + layers * one


def loss_bytes(model: Architecture, rows: int, length: int, targets: float = 1.0, width: int = FLOAT) -> int:
    """The last norm, and the hidden states and logits of the `targets`, a share of all tokens."""
    tokens = rows * length
    norm = 2 * tokens * model.hidden * width
    vocabulary = LOSS_ROWS * model.vocabulary * FLOAT
    return norm + round(targets * tokens) * (model.hidden * width + vocabulary)
