"""A report that remembers, artifacts that are plain folders, and documents made of a text."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codellm_dag.corpora.documents import Document, write_documents
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.protocol import Inputs, LocalArtifact


class RecordingReport:
    """Keeps what a stage says."""

    def __init__(self, resume_dir: Path) -> None:
        self.runtime = Runtime(threads=1, workers=1)
        self.resume_dir = resume_dir
        self.metrics: dict[str, float | int | str | bool] = {}
        self.tables: dict[str, list] = {}
        self.progressed: list[tuple[float, float]] = []
        self.lines: list[str] = []

    def progress(self, done, total, unit="", note=""):
        del unit, note
        self.progressed.append((done, total))

    def metric(self, **values):
        self.metrics.update(values)

    def point(self, step, **values):
        del step, values

    def table(self, name, rows):
        self.tables[name] = list(rows)

    def log(self, message):
        self.lines.append(message)


@pytest.fixture
def report(tmp_path):
    """A report that remembers."""
    return RecordingReport(tmp_path / "resume")


@pytest.fixture
def out(tmp_path):
    """An empty folder for a stage's output."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def make_document(text: str, path: str = "a.py", **more) -> Document:
    fields = {"language": "python", "source": "here@1", "licence": "MIT", **more}
    return Document.of(text, path=path, **fields)


@pytest.fixture
def document():
    """Makes a document of a text."""
    return make_document


@pytest.fixture
def inputs(tmp_path):
    """Makes inputs of slots: a list of documents becomes a corpus, a path stays a folder."""

    def make(**slots) -> Inputs:
        artifacts = {}
        for slot, value in slots.items():
            name = slot.replace("__", "/")
            folder = value
            if not isinstance(value, Path):
                folder = tmp_path / "inputs" / slot
                folder.mkdir(parents=True)
                write_documents(folder / "documents.parquet", value)
            artifacts[name] = LocalArtifact("corpus", name, "0" * 64, "1" * 64, folder)
        return Inputs(artifacts)

    return make


@pytest.fixture
def rows():
    """Reads a Parquet file as a list of rows."""
    return lambda path: pq.read_table(path).to_pylist()
