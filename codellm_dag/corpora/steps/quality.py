"""Quality filter: simple, published rules that tell code a person wrote from data, minified and generated
code.

Rules and numbers are in `QualityRecipe`. Memory: none is kept. Not covered: judging good code; the syntax of
languages other than Python; near misses (a file of one byte too many goes).
"""

from __future__ import annotations

import ast
import re
import warnings

from codellm_dag.corpora.documents import Document
from codellm_dag.corpora.steps.base import Rejection
from codellm_dag.recipes.corpora import QualityRecipe

_GENERATED = re.compile(
    r"@generated|auto-?generated|automatically[ -]generated|"
    r"(?:generated (?:by|from|file)|do not (?:edit|modify)).*(?:do not (?:edit|modify)|generated)",
    re.IGNORECASE,
)
"""A line that says that a program wrote the file."""

_ALPHANUMERIC = re.compile(r"[^\W_]+")
"""Runs of letters and digits."""


class QualityFilter:
    """Reasons: ``too_small, too_large, long_line, long_lines, few_letters, generated, syntax_error``."""

    def __init__(self, recipe: QualityRecipe) -> None:
        self._recipe = recipe

    def apply(self, document: Document) -> Document | Rejection:
        """The document, or the first rule it breaks; cheap rules come first."""
        return (
            self._size(document)
            or self._lines(document.text)
            or self._letters(document.text)
            or self._generated(document.text)
            or self._syntax(document)
            or document
        )

    def _size(self, document: Document) -> Rejection | None:
        if document.bytes < self._recipe.min_bytes:
            return Rejection("too_small", f"{document.bytes} bytes")
        if document.bytes > self._recipe.max_bytes:
            return Rejection("too_large", f"{document.bytes} bytes")
        return None

    def _lines(self, text: str) -> Rejection | None:
        lengths = [len(line) for line in text.splitlines()] or [0]
        if max(lengths) > self._recipe.max_line_length:
            number = lengths.index(max(lengths)) + 1
            return Rejection("long_line", f"line {number} has {max(lengths)} characters")
        mean = sum(lengths) / len(lengths)
        if mean > self._recipe.max_mean_line_length:
            return Rejection("long_lines", f"mean line of {mean:.1f} characters")
        return None

    def _letters(self, text: str) -> Rejection | None:
        share = sum(map(len, _ALPHANUMERIC.findall(text))) / max(1, len(text))
        if share < self._recipe.min_alphanumeric_fraction:
            return Rejection("few_letters", f"{share:.1%} letters and digits")
        return None

    def _generated(self, text: str) -> Rejection | None:
        for number, line in enumerate(text.split("\n", self._recipe.generated_marker_lines)):
            if number < self._recipe.generated_marker_lines and _GENERATED.search(line):
                return Rejection("generated", f"line {number + 1}: {line.strip()[:120]}")
        return None

    def _syntax(self, document: Document) -> Rejection | None:
        if not self._recipe.python_must_parse or document.language != "python":
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(document.text)
        except (SyntaxError, ValueError) as error:
            return Rejection("syntax_error", str(error)[:200])
        except (RecursionError, MemoryError):
            return Rejection("syntax_error", "nested too deeply to be parsed")
        return None
