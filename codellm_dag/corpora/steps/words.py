"""Words of a text as 64-bit hashes, and hashes of every run of n words (shingles, n-grams).

Words are runs of letters, digits and '_', so layout and punctuation do not count. Hashes do not depend on the
process or machine. Two different runs share a hash with probability 2^-64: for 10^9 runs about 0.03 pairs.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

import numpy as np

_WORD = re.compile(r"\w+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    return _WORD.findall(text)


@lru_cache(maxsize=1 << 18)
def _word_hash(word: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest(), "little"
    )


def word_hashes(words: list[str]) -> np.ndarray:
    """One uint64 for each word, shape (words,). Memory: 8 bytes a word, and a cache of 262,144 words."""
    return np.fromiter(map(_word_hash, words), dtype=np.uint64, count=len(words))


def run_hashes(hashes: np.ndarray, length: int) -> np.ndarray:
    """One uint64 for each run of ``length`` words, shape (words - length + 1,); order of words counts.

    A text with fewer words than ``length`` is one run of all its words; a text without words has none.
    """
    length = min(length, len(hashes))
    if length == 0:
        return np.empty(0, dtype=np.uint64)
    runs = len(hashes) - length + 1
    total = np.zeros(runs, dtype=np.uint64)
    for offset in range(length):
        total = total * _MULTIPLIER + hashes[offset : offset + runs]
    return mixed(total)


def mixed(values: np.ndarray) -> np.ndarray:
    """Scramble uint64 values so that every bit depends on all bits (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))
