"""Floating-point operations of training, the formula of MFU (model FLOPs utilization).

Chowdhery et al. 2022 (PaLM), appendix B: a token costs ``6 N + 12 L H Q T``, where N counts parameters,
L layers, H heads, Q the size of a head and T the tokens of a row. Two operations per parameter in the forward
pass, four in the backward; attention's two products (scores and weighted sum) likewise, over
all T tokens: neither the causal half nor the borders between packed documents are taken off, and what
gradient checkpointing computes again does not count.

N here counts the parameters of matrices: not the input embedding, which is a look-up, but the output matrix,
at every token, also where the trainer skips tokens without a target.
"""

from __future__ import annotations

from codellm_dag.training.architecture import Architecture


def training_flops_per_token(model: Architecture, sequence_length: int) -> int:
    """Operations of one token's forward and backward pass, in rows of `sequence_length` tokens.

    Of a mixture of experts the experts that a token is sent to are counted.
    """
    attention = 12 * model.layers * model.attention_width * sequence_length
    return 6 * model.matrix_parameters + attention


def utilization(tokens_per_second: float, flops_per_token: float, devices: int, peak_flops: float) -> float:
    """MFU: the operations done per second as a share of what `devices` can do at ``peak_flops`` a second."""
    return tokens_per_second * flops_per_token / (devices * peak_flops)
