"""What a cleaning step is: it is shown one document after the other and keeps it, edits it or rejects it.

That is the whole protocol, so a step can be tested on three strings, and a corpus of any size streams through
all steps at once. A step may remember what it has seen; each says how its memory grows. Counting, keeping the
rejected documents and reporting are done once, in `clean_corpus`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from codellm_dag.corpora.documents import Document


@dataclass(frozen=True)
class Rejection:
    """Why a document goes: a reason (one of a step's few, to be counted) and what exactly was found."""

    reason: str
    detail: str


class Step(Protocol):
    """One cleaning step. Documents come in a fixed order, so memory of earlier ones is deterministic."""

    def apply(self, document: Document) -> Document | Rejection:
        """The document to keep (edited with `Document.with_text`, if the step edits), or why it goes."""
        ...
