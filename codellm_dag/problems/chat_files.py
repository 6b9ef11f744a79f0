"""The files of a stage that makes chat examples from outside material: what is kept, what went, and counts.

``train.parquet`` holds the columns that `sft_checkpoint` reads and where each example comes from;
``rejected.parquet`` the same with step, reason and detail; ``steps.json`` documents and bytes in and out per
step and source, as a clean corpus has it. Memory: two row groups of at most 1,000 examples or 8 MB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from codellm_dag.corpora.documents import Document, DocumentWriter
from codellm_dag.corpora.steps.base import Rejection
from codellm_dag.corpora.steps.decontamination import Decontamination, benchmark_texts
from codellm_dag.corpora.tally import Tally, removal_rows
from codellm_dag.problems.sft_data_file import DATA_FILE, SCHEMA
from codellm_dag.recipes.corpora import DecontaminationRecipe
from codellm_dag.stages.protocol import Inputs, Report

REJECTED = "rejected.parquet"
STEPS_FILE = "steps.json"

EXAMPLE_SCHEMA = pa.schema(
    [
        *SCHEMA,
        *(pa.field(name, pa.string(), nullable=False) for name in ("source", "path", "licence", "tests")),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)
"""`SCHEMA` with the example's source (name and version), path in it, SPDX licence ('' if unknown), its tests
as JSON ('' if none), and the UTF-8 bytes of its messages."""

REJECTED_SCHEMA = pa.schema(
    [*EXAMPLE_SCHEMA, *(pa.field(name, pa.string(), nullable=False) for name in ("step", "reason", "detail"))]
)

_DETAIL = 300


@dataclass(frozen=True)
class ChatExample:
    """One request and its answer; the fields are columns of `EXAMPLE_SCHEMA`."""

    example_id: str
    request: str
    answer: str
    source: str
    path: str = ""
    licence: str = ""
    tests: str = ""
    language: str = "python"

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of request and answer."""
        return len(self.request.encode()) + len(self.answer.encode())

    def unfit(self, most: int, more: int = 0) -> tuple[str, ...]:
        """Reason and detail why it cannot be an example, of `most` bytes with `more` beside it; () if it can.

        Reasons: ``empty``, ``too_large``.
        """
        if not self.request.strip() or not self.answer.strip():
            return ("empty",)
        size = self.bytes + more
        return ("too_large", f"{size} bytes") if size > most else ()

    def row(self) -> dict[str, Any]:
        """The example as a row of `EXAMPLE_SCHEMA`."""
        turns = (("user", self.request), ("assistant", self.answer))
        return {
            "problem_id": self.example_id,
            "template": "",
            "messages": [{"role": role, "content": content} for role, content in turns],
            "language": self.language,
            "source": self.source,
            "path": self.path,
            "licence": self.licence,
            "tests": self.tests,
            "bytes": self.bytes,
        }


@dataclass
class Sieve:
    """Writes what passed all `steps` and what did not, and counts both. A context manager."""

    out: Path
    steps: Sequence[str]
    kept: list[tuple[str, str]] = field(default_factory=list)
    """The first five that were kept, for the asset's page."""

    def __enter__(self) -> Self:
        self._tally = Tally(self.steps)
        self._kept = DocumentWriter(self.out / DATA_FILE, EXAMPLE_SCHEMA).__enter__()
        self._rejected = DocumentWriter(self.out / REJECTED, REJECTED_SCHEMA).__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._kept.__exit__(*error)
        self._rejected.__exit__(*error)

    def keep(self, example: ChatExample) -> None:
        """The example passed every step."""
        for step in self.steps:
            self._tally.add(step, example, example)
        self._tally.add_total(example, example)
        self._kept.write(example.row())
        if len(self.kept) < 5:
            self.kept.append((example.request, example.answer))

    def reject(self, example: ChatExample, step: str, reason: str, detail: str = "") -> None:
        """The example passed the steps before `step` and not that one."""
        rejection = Rejection(reason, detail[:_DETAIL])
        for name in self.steps:
            self._tally.add(name, example, rejection if name == step else example)
            if name == step:
                break
        self._tally.add_total(example, rejection)
        self._rejected.write({**example.row(), "step": step, "reason": reason, "detail": rejection.detail})

    def counts(self) -> dict[str, Any]:
        """What ``steps.json`` holds."""
        return self._tally.as_dict()

    def finish(self, report: Report) -> None:
        """Write ``steps.json`` and report rates, counts and a few examples."""
        counts = self.counts()
        text = json.dumps(counts, indent=1, ensure_ascii=False)
        (self.out / STEPS_FILE).write_text(text + "\n", encoding="utf-8")
        total = counts["total"]
        report.metric(
            seen=total["documents_in"],
            examples=total["documents_out"],
            rejected=total["documents_in"] - total["documents_out"],
        )
        report.table("removal rates", removal_rows(counts)[:100])
        report.table("examples", [{"request": request, "answer": answer} for request, answer in self.kept])


class Repeats:
    """Finds an example whose request and answer came before. Memory: 100 bytes an example that is kept."""

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}

    def first(self, example: ChatExample) -> str:
        """The id of the earlier example with the same words, or '' (then this one is remembered)."""
        words = " ".join(f"{example.request}\n{example.answer}".split())
        key = hashlib.sha256(words.encode()).digest()[:16]
        known = self._seen.setdefault(key, example.example_id)
        return "" if known == example.example_id else known


class Contamination:
    """Finds an example that shares a run of words with a benchmark problem, as the cleaning of corpora
    does."""

    def __init__(self, recipe: DecontaminationRecipe, inputs: Inputs) -> None:
        """Of the problems in the slots ``benchmark/*``. Raises ValueError if there are none: nothing would be
        removed, and the examples would look clean."""
        folders: Mapping[str, Path] = {name: item.path for name, item in inputs.many("benchmark").items()}
        if not folders:
            raise ValueError("no benchmark in the slots benchmark/*; give those that the model is judged on")
        self._step = Decontamination(recipe, benchmark_texts(folders))

    def of(self, example: ChatExample) -> Rejection | None:
        """What of a benchmark the example holds, or None."""
        text = f"{example.request}\n{example.answer}"
        document = Document.of(text, language="python", path="", source="", licence="")
        found = self._step.apply(document)
        return found if isinstance(found, Rejection) else None
