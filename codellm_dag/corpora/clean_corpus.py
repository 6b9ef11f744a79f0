"""Stage `clean_corpus`: one language's documents through the cleaning steps, in the recipe's order.

Writes ``documents.parquet`` (what is kept, in the order it came), ``rejected.parquet`` (what went, each with
step, reason and detail), ``steps.json`` (counts, bytes and reasons per step and source, see `tally.py`), and
below ``_volatile`` the CPU seconds of each step. Documents stream: memory is what the steps remember (each
says how much) and two row groups. Only documents of one language are compared with one another.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from codellm_dag.corpora.documents import (
    DOCUMENTS,
    REJECTED,
    REJECTED_SCHEMA,
    Document,
    DocumentWriter,
    iter_documents,
    open_documents,
)
from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.steps import STEPS, Rejection, Step
from codellm_dag.corpora.tally import Tally, removal_rows
from codellm_dag.recipes.corpora import CleanCorpusRecipe
from codellm_dag.stages.protocol import VOLATILE, Inputs, Report

STEPS_FILE = "steps.json"


def run(recipe: CleanCorpusRecipe, inputs: Inputs, out: Path, report: Report) -> None:
    """Clean the corpus of slot ``corpus`` against the problems of slots ``benchmark/<name>``.

    Raises CorpusError when an input lacks a file or a column, or when decontamination is asked for and no
    benchmark is given (nothing would be removed, and the corpus would look clean).
    """
    benchmarks = {name: artifact.path for name, artifact in inputs.many("benchmark").items()}
    if "decontamination" in recipe.steps and not benchmarks:
        raise CorpusError(
            "clean_corpus has the step decontamination but no benchmark as input; give one or drop it"
        )
    steps = {name: STEPS[name](recipe, benchmarks) for name in recipe.steps}
    tally = Tally(recipe.steps)
    seconds: dict[str, float] = dict.fromkeys(map(str, recipe.steps), 0.0)
    file = open_documents(inputs["corpus"].path / DOCUMENTS)
    total = file.metadata.num_rows
    with DocumentWriter(out / DOCUMENTS) as kept, DocumentWriter(out / REJECTED, REJECTED_SCHEMA) as rejected:
        for number, document in enumerate(iter_documents(file), 1):
            step, result = _through(steps, document, tally, seconds)
            tally.add_total(document, result)
            if isinstance(result, Rejection):
                rejected.write(document.row(step=step, reason=result.reason, detail=result.detail))
            else:
                kept.write(result.row())
            report.progress(number, total, "documents")
    _finish(tally, seconds, out, report)


def _through(
    steps: dict[str, Step], document: Document, tally: Tally, seconds: dict[str, float]
) -> tuple[str, Document | Rejection]:
    """The document after all steps, or the step that rejected it and why."""
    for name, step in steps.items():
        start = time.process_time()
        result = step.apply(document)
        seconds[name] += time.process_time() - start
        tally.add(name, document, result)
        if isinstance(result, Rejection):
            return name, result
        document = result
    return "", document


def _finish(tally: Tally, seconds: dict[str, float], out: Path, report: Report) -> None:
    counts = tally.as_dict()
    text = json.dumps(counts, indent=1, ensure_ascii=False)
    (out / STEPS_FILE).write_text(text + "\n", encoding="utf-8")
    volatile = out / VOLATILE
    volatile.mkdir(exist_ok=True)
    times = {name: round(value, 3) for name, value in seconds.items()}
    (volatile / "cpu_seconds.json").write_text(json.dumps(times, indent=1) + "\n", encoding="utf-8")
    whole = counts["total"]
    report.table("removal rates", removal_rows(counts)[:100])
    report.metric(
        documents=whole["documents_out"],
        bytes=whole["bytes_out"],
        removed_documents=whole["documents_in"] - whole["documents_out"],
        removed_bytes=whole["bytes_in"] - whole["bytes_out"],
    )
