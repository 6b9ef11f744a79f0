"""Exact deduplication: of documents with the same text, the first is kept.

Memory: a 32-byte digest and the name of the kept document, about 250 bytes a document.
"""

from __future__ import annotations

import hashlib

from codellm_dag.corpora.documents import Document
from codellm_dag.corpora.steps.base import Rejection
from codellm_dag.recipes.corpora import ExactDedupRecipe


class ExactDedup:
    """Reason: ``duplicate``; the detail names the document that was kept."""

    def __init__(self, recipe: ExactDedupRecipe) -> None:
        self._ignore_blanks = recipe.ignore_trailing_whitespace
        self._kept: dict[bytes, str] = {}

    def apply(self, document: Document) -> Document | Rejection:
        """The document when its text is new."""
        text = document.text
        if self._ignore_blanks:
            text = "\n".join(line.rstrip() for line in text.rstrip().splitlines())
        key = hashlib.sha256(text.encode()).digest()
        name = f"{document.source}: {document.path}"
        first = self._kept.setdefault(key, name)
        return document if first is name else Rejection("duplicate", f"of {first}")
