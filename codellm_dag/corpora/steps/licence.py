"""Licence filter: the document's SPDX expression must be satisfied by the allow-list.

Memory: one entry for each distinct expression.
"""

from __future__ import annotations

from packaging.licenses import InvalidLicenseExpression

from codellm_dag.corpora.documents import Document
from codellm_dag.corpora.spdx import satisfied
from codellm_dag.corpora.steps.base import Rejection
from codellm_dag.recipes.corpora import LicenceRecipe


class LicenceFilter:
    """Reasons: ``not_allowed``, ``unknown`` (no licence), ``invalid`` (not SPDX)."""

    def __init__(self, recipe: LicenceRecipe) -> None:
        self._allowed = frozenset(recipe.allow)
        self._unknown_passes = recipe.allow_unknown
        self._judged: dict[str, Rejection | None] = {}

    def apply(self, document: Document) -> Document | Rejection:
        """The document, or why its licence forbids to keep it."""
        if document.licence not in self._judged:
            self._judged[document.licence] = self._judge(document.licence)
        return self._judged[document.licence] or document

    def _judge(self, licence: str) -> Rejection | None:
        if not licence:
            return None if self._unknown_passes else Rejection("unknown", "the source gives no licence")
        try:
            if satisfied(licence, self._allowed):
                return None
        except InvalidLicenseExpression as error:
            return None if self._unknown_passes else Rejection("invalid", f"{licence!r}: {error}")
        return Rejection("not_allowed", licence)
