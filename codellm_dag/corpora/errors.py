"""What can go wrong with a corpus, each a sentence that says what to do next."""

from __future__ import annotations


class CorpusError(ValueError):
    """A source, an input or a document is not as the recipe says; the message names it and what is
    allowed."""


class MissingSource(CorpusError):
    """A language has no source on this machine: none in the recipe, or a package that was not fetched.

    Not a fault of the run: the asset says so and leaves the language out.
    """
