"""Fill-in-the-middle: rewriting a text so that a left-to-right model learns to fill a gap.

Character-level, as in Bavarian et al. 2022 (arXiv:2207.14255): two cut points are drawn uniformly, and the
three parts are written in prefix-suffix-middle order (PSM) or suffix-prefix-middle order (SPM, in the variant
of their appendix D that StarCoder uses). The choice depends on the seed and the document alone.
"""

from __future__ import annotations

import hashlib
import random
from typing import Literal, NamedTuple

Order = Literal["psm", "spm"]


class Parts(NamedTuple):
    """A text cut in three; joined in order they are the text again."""

    prefix: str
    middle: str
    suffix: str


def document_rng(seed: int, document_id: str) -> random.Random:
    """The random numbers of one document, whatever other documents there are."""
    digest = hashlib.sha256(f"fim/{seed}/{document_id}".encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def cut(text: str, rng: random.Random) -> Parts:
    """Cut `text` at two points drawn uniformly from its ``len(text) + 1`` positions."""
    first, second = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
    return Parts(text[:first], text[first:second], text[second:])


def choose_order(rng: random.Random, fim_rate: float, spm_rate: float) -> Order | None:
    """Whether to rewrite (probability `fim_rate`), and how; always draws two numbers."""
    rewrite, spm = rng.random() < fim_rate, rng.random() < spm_rate
    if not rewrite:
        return None
    return "spm" if spm else "psm"


def arrange(prefix: list[int], middle: list[int], suffix: list[int], order: Order, ids: FimIds) -> list[int]:
    """Token ids of the rewritten text, from the token ids of its parts."""
    if order == "psm":
        return [ids.prefix, *prefix, ids.suffix, *suffix, ids.middle, *middle]
    return [ids.prefix, ids.suffix, *suffix, ids.middle, *prefix, *middle]


class FimIds(NamedTuple):
    """Ids of the three special tokens."""

    prefix: int
    middle: int
    suffix: int
