"""Near deduplication: MinHash with banding proposes earlier kept documents, exact Jaccard similarity decides.

A document goes only when its own shingle set is similar enough to that of a document that is *kept*. There is
no transitive closure: a chain of pairwise similar files does not collapse into one, and no source can be
emptied by unverified candidates, as has happened in public data sets. MinHash: Broder 1997; banding:
Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3. Pairs below a band's reach are missed:
at similarity s with probability (1 - s^rows)^bands.

Memory: for a kept document 8 bytes a distinct shingle (about 0.7 bytes a byte of code) and about 6 kB of band
entries (32 bands): 1 GB holds some 100,000 files of 6 kB.
"""

from __future__ import annotations

import numpy as np

from codellm_dag.corpora.documents import Document
from codellm_dag.corpora.steps.base import Rejection
from codellm_dag.corpora.steps.words import mixed, run_hashes, word_hashes, words_of
from codellm_dag.recipes.corpora import NearDedupRecipe

_BLOCK = 2048
"""Shingles hashed at once: 128 hashes × 2,048 × 8 bytes are 2 MB, which stays in the processor's cache."""


class NearDedup:
    """Reason: ``near_duplicate``; the detail names the similarity and the document that was kept."""

    def __init__(self, recipe: NearDedupRecipe) -> None:
        self._recipe = recipe
        self._bands: dict[int, list[int]] = {}
        self._shingles: list[np.ndarray] = []
        self._names: list[str] = []
        generator = np.random.Generator(np.random.PCG64(recipe.seed))
        hashes = recipe.bands * recipe.rows
        self._factors = generator.integers(0, 2**64, size=(hashes, 1), dtype=np.uint64) | np.uint64(1)
        self._offsets = generator.integers(0, 2**64, size=(hashes, 1), dtype=np.uint64)

    def apply(self, document: Document) -> Document | Rejection:
        """The document when no kept one is similar to it."""
        shingles = np.unique(run_hashes(word_hashes(words_of(document.text)), self._recipe.words_per_shingle))
        if not len(shingles):
            return document
        keys = self._band_keys(shingles)
        for kept in sorted({kept for key in keys for kept in self._bands.get(key, ())}):
            similarity = jaccard(shingles, self._shingles[kept], self._recipe.jaccard_threshold)
            if similarity >= self._recipe.jaccard_threshold:
                return Rejection("near_duplicate", f"{similarity:.3f} similar to {self._names[kept]}")
        self._remember(f"{document.source}: {document.path}", shingles, keys)
        return document

    def _remember(self, name: str, shingles: np.ndarray, keys: list[int]) -> None:
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._names))
        self._names.append(name)
        self._shingles.append(shingles)

    def signature(self, shingles: np.ndarray) -> np.ndarray:
        """MinHash values of a set of shingles, shape (bands × rows,), uint64."""
        least = np.full(len(self._factors), np.iinfo(np.uint64).max, dtype=np.uint64)
        for start in range(0, len(shingles), _BLOCK):
            block = shingles[None, start : start + _BLOCK] * self._factors + self._offsets
            np.minimum(least, block.min(axis=1), out=least)
        return least

    def _band_keys(self, shingles: np.ndarray) -> list[int]:
        """One number for each band, different for equal rows of different bands."""
        rows = self.signature(shingles).reshape(self._recipe.bands, self._recipe.rows)
        keys = np.arange(self._recipe.bands, dtype=np.uint64)
        for column in rows.T:
            keys = mixed(keys + column)
        return keys.tolist()


def jaccard(one: np.ndarray, other: np.ndarray, threshold: float = 0.0) -> float:
    """Jaccard similarity of two sorted arrays of distinct values: shared / all.

    Returns 0.0 without comparing when the sizes alone keep it below ``threshold``.
    """
    small, large = sorted((len(one), len(other)))
    if not large or small / large < threshold:
        return 0.0
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (small + large - shared)
