"""Stage `raw_corpus`: read the sources of one language into one Parquet file, as they are.

Writes ``documents.parquet`` (schema in `documents.py`; sources in the recipe's order, files sorted by path)
and ``sources.json``: per source what it was, files, documents, bytes, and every file that could not be
decoded, with the reason. Decides nothing about quality: that is `clean_corpus`. Memory: 8 MB and one file.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from codellm_dag.corpora.documents import DOCUMENTS, Document, DocumentWriter
from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.sources import RawFile, open_source
from codellm_dag.recipes.corpora import RawCorpusRecipe
from codellm_dag.recipes.sources import SourceRecipe
from codellm_dag.stages.protocol import Inputs, Report


def run(recipe: RawCorpusRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Read every source of ``recipe``, which `sources.resolve` has pinned for one language.

    Raises CorpusError when the recipe was not resolved, is of several languages, or yields no document.
    """
    del inputs
    _check(recipe)
    summaries = []
    with DocumentWriter(out / DOCUMENTS) as writer:
        for number, source in enumerate(recipe.sources):
            report.progress(number, len(recipe.sources), "sources", source.name)
            summaries.append(_read_source(source, writer, report))
    totals = {key: sum(summary[key] for summary in summaries) for key in ("files", "documents", "bytes")}
    if not totals["documents"]:
        raise CorpusError(f"no source of {recipe.sources[0].language} has a readable document")
    text = json.dumps({"sources": summaries}, indent=1, sort_keys=True, ensure_ascii=False)
    (out / "sources.json").write_text(text + "\n", encoding="utf-8")
    report.progress(len(recipe.sources), len(recipe.sources), "sources")
    report.metric(**totals, unreadable=totals["files"] - totals["documents"])
    columns = ("source", "kind", "version", "licence", "files", "documents", "bytes")
    report.table("sources", [{key: summary[key] for key in columns} for summary in summaries[:100]])


def _check(recipe: RawCorpusRecipe) -> None:
    languages = sorted({source.language for source in recipe.sources})
    if len(languages) != 1:
        raise CorpusError(
            f"a raw corpus is of one language, this recipe is of {languages or 'none'}; use resolve()"
        )
    for source in recipe.sources:
        pinned = source.content_digest or source.sha256 or source.revision
        if not (pinned and source.name):
            raise CorpusError(
                f"source {source.name or source.kind!r} is not pinned to its content; call "
                "codellm_dag.corpora.sources.resolve(recipe, language) before the stage"
            )


def _read_source(source: SourceRecipe, writer: DocumentWriter, report: Report) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    rejected: list[dict[str, str]] = []
    for file in open_source(source).read():
        counts["files"] += 1
        document = _decode(file, source)
        if isinstance(document, str):
            path = file.path.encode("utf-8", "backslashreplace").decode()
            rejected.append({"path": path, "reason": document})
            report.log(f"{source.name}: {path} left out: {document}")
        else:
            counts["documents"] += 1
            counts["bytes"] += document.bytes
            writer.write(document.row())
    return {
        "source": source.name,
        "kind": source.kind,
        "version": source.version or source.revision,
        "licence": source.licence,
        "content": source.content_digest or source.sha256 or source.revision,
        "files": counts["files"],
        "documents": counts["documents"],
        "bytes": counts["bytes"],
        "rejected": rejected,
    }


def _decode(file: RawFile, source: SourceRecipe) -> Document | str:
    """The document, or the reason why there is none. A byte order mark is not part of the text."""
    try:
        text = file.content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return f"not UTF-8 at byte {error.start}"
    if not file.path.isprintable():
        return "its path is not printable UTF-8"
    return Document.of(
        text, language=source.language, path=file.path, source=source.name, licence=file.licence
    )
