"""Benchmarks and corpora for the stages that make chat examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from codellm_dag.corpora.documents import DOCUMENTS, Document, write_documents
from codellm_dag.problems.schema import Problem, write_problems
from codellm_dag.stages.protocol import Inputs, LocalArtifact
from tests.modelkit.tiny import artifact


@pytest.fixture
def benchmark_inputs(tmp_path: Path) -> Inputs:
    """One benchmark with one problem, of more than ten words."""
    (tmp_path / "bench").mkdir()
    problem = Problem(
        problem_id="bench/0",
        benchmark="bench",
        entry_point="held",
        prompt="def held(first, second):\n"
        '    """Add the first number to the second, then halve what came out."""\n',
        reference="    return (first + second) / 2\n",
    )
    write_problems(tmp_path / "bench", [problem])
    return Inputs({"benchmark/bench": artifact(tmp_path / "bench")})


@pytest.fixture
def corpus(tmp_path: Path) -> Callable[[Mapping[str, str]], LocalArtifact]:
    """A clean Python corpus of the given files."""

    def make(files: Mapping[str, str]) -> LocalArtifact:
        folder = tmp_path / "corpus"
        folder.mkdir(exist_ok=True)
        documents = [
            Document.of(text, language="python", path=path, source="lib@1", licence="MIT")
            for path, text in files.items()
        ]
        write_documents(folder / DOCUMENTS, documents)
        return artifact(folder)

    return make
