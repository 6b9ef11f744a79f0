"""What a sampler returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Completion:
    """One sampled continuation.

    ``token_ids``: sampled ids, the end token included when the model emitted one. ``text``: their text
    without special tokens, cut before a stop string. ``logprobs``: natural-log probability of each id under
    softmax(logits / temperature) before any top-p cut (temperature 1 when greedy). ``finished``: True when
    an end token or stop string ended it, False when the token limit did.
    """

    token_ids: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    finished: bool
