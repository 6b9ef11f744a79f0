"""The modules of a clean Python corpus, parsed. Memory: one module and a row group of documents."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codellm_dag.corpora.documents import DOCUMENTS, Document, iter_documents, open_documents


@dataclass(frozen=True)
class Module:
    """A document, its tree, and its lines without their ends."""

    document: Document
    tree: ast.Module
    lines: list[str]


def python_modules(corpus: Path, holding: str = "") -> Iterator[Module]:
    """The Python documents in the folder of a corpus, in its order, that hold a text.

    What the running interpreter cannot parse is left out; the quality filter of the cleaning has counted it.
    """
    for document in iter_documents(open_documents(corpus / DOCUMENTS)):
        if document.language != "python" or holding not in document.text:
            continue
        try:
            tree = ast.parse(document.text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        yield Module(document, tree, document.text.split("\n"))
