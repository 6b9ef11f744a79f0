"""From documents to pieces: token sequences of at most one row, some rewritten for fill-in-the-middle.

A document is encoded whole and cut into pieces of a row's length; the last piece ends with the end-of-text
token. Fill-in-the-middle is applied to a piece, not to the document, so that prefix, suffix and middle share
a row ("context-level FIM" of Bavarian et al. 2022, section 3.1); its cuts are between characters. A rewritten
piece gives up a few tokens of room for the special tokens and for merges that the cuts break.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from codellm_dag.recipes.tokens import ShardsRecipe
from codellm_dag.tokens.corpus import Document
from codellm_dag.tokens.fim import FimIds, arrange, choose_order, cut, document_rng
from codellm_dag.tokens.special import END_OF_TEXT, FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX
from codellm_dag.tokens.tokenizer import token_id

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_FIM_ROOM = 8
"""Tokens a rewritten piece is shorter by: three special tokens and what two cuts add to the encoding."""


class PieceCutter:
    """Cuts documents into pieces with one tokenizer and recipe."""

    def __init__(self, tokenizer: Tokenizer, recipe: ShardsRecipe) -> None:
        self.tokenizer = tokenizer
        self.recipe = recipe
        self.end_of_text = token_id(tokenizer, END_OF_TEXT)
        self.fim_ids = FimIds(*(token_id(tokenizer, name) for name in (FIM_PREFIX, FIM_MIDDLE, FIM_SUFFIX)))
        self.rewritten = 0

    def pieces(self, documents: Iterable[Document]) -> Iterator[tuple[Document, list[list[int]]]]:
        """Each document with its pieces, encoded in batches."""
        batch: list[Document] = []
        for document in documents:
            batch.append(document)
            if len(batch) == 256:
                yield from self._batch(batch)
                batch = []
        yield from self._batch(batch)

    def _batch(self, batch: list[Document]) -> Iterator[tuple[Document, list[list[int]]]]:
        texts = [document.text for document in batch]
        for document, encoding in zip(batch, self.tokenizer.encode_batch(texts), strict=True):
            yield document, self._cut(document, encoding)

    def _cut(self, document: Document, encoding: Encoding) -> list[list[int]]:
        ids, offsets = encoding.ids, encoding.offsets
        rng = document_rng(self.recipe.seed, document.document_id)
        pieces: list[list[int]] = []
        start = 0
        while start < len(ids):
            order = choose_order(rng, self.recipe.fim_rate, self.recipe.fim_spm_rate)
            room = self.recipe.sequence_length - (_FIM_ROOM if order else 0)
            stop = min(start + room, len(ids))
            piece = ids[start:stop]
            if order:
                end = offsets[stop][0] if stop < len(ids) else len(document.text)
                text = document.text[offsets[start][0] : end]
                piece = self._rewritten(text, piece, order, rng)
            pieces.append(piece)
            start = stop
        if pieces and len(pieces[-1]) < self.recipe.sequence_length:
            pieces[-1].append(self.end_of_text)
        else:
            pieces.append([self.end_of_text])
        return pieces

    def _rewritten(self, text: str, plain: list[int], order: str, rng: random.Random) -> list[int]:
        parts = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(list(cut(text, rng)))]
        tokens = arrange(*parts, order="spm" if order == "spm" else "psm", ids=self.fim_ids)
        if len(tokens) > self.recipe.sequence_length:
            return plain
        self.rewritten += 1
        return tokens
