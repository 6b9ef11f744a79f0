"""The stage clean_corpus and the bounds on what it removes, on hand-made documents and real files."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from typing import get_args

import pytest

from codellm_dag.corpora import clean_corpus
from codellm_dag.corpora.bounds import Removal, implausible_removals, read_steps
from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.steps import STEPS
from codellm_dag.recipes.corpora import CleanCorpusRecipe, StepName
from codellm_dag.recipes.removal_bounds import RemovalBounds

PROBLEM = "def below zero of a list of operations return true when the balance falls"


def code(name: str) -> str:
    """Forty lines of Python that share no run of words with those of another name."""
    lines = [f"def {name}_{n}(first_{name}, second_{n}_{name}):" for n in range(20)]
    return "".join(f"{line}\n    return first_{name} * {n} + {n * n}\n" for n, line in enumerate(lines))


@pytest.fixture
def benchmark(tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    row = {"problem_id": "toy/0", "prompt": PROBLEM, "reference": ""}
    (folder / "problems.jsonl").write_text(json.dumps(row) + "\n")
    return folder


@pytest.fixture
def corpus(document):
    return [
        document(code("alpha"), "alpha.py"),
        document(code("beta"), "gpl.py", licence="GPL-3.0-only", source="other@2"),
        document("x = 1\n", "tiny.py"),
        document(code("alpha"), "copy.py", source="other@2"),
        document(code("alpha").replace("alpha_7", "alpha_x"), "near.py"),
        document(code("gamma") + f"# {PROBLEM}\n", "leak.py"),
        document(code("delta"), "delta.py", source="other@2"),
    ]


def test_each_removal_is_kept_with_step_reason_and_detail(inputs, corpus, benchmark, out, report, rows):
    clean_corpus.run(CleanCorpusRecipe(), inputs(corpus=corpus, benchmark__toy=benchmark), out, report)
    kept = rows(out / "documents.parquet")
    assert kept == [corpus[0].row(), corpus[6].row()]
    rejected = {
        row["path"]: (row["step"], row["reason"], row["detail"]) for row in rows(out / "rejected.parquet")
    }
    assert rejected["gpl.py"] == ("licence", "not_allowed", "GPL-3.0-only")
    assert rejected["tiny.py"] == ("quality", "too_small", "6 bytes")
    assert rejected["copy.py"] == ("exact_dedup", "duplicate", "of here@1: alpha.py")
    assert rejected["near.py"][:2] == ("near_dedup", "near_duplicate")
    assert rejected["near.py"][2].endswith("similar to here@1: alpha.py")
    assert rejected["leak.py"][:2] == ("decontamination", "benchmark/toy")
    assert rejected["leak.py"][2].startswith("toy/0: ")
    assert len(rejected) == 5
    assert report.progressed[-1] == (7, 7)


def test_the_counts_add_up_per_step_and_source(inputs, corpus, benchmark, out, report):
    clean_corpus.run(CleanCorpusRecipe(), inputs(corpus=corpus, benchmark__toy=benchmark), out, report)
    counts = json.loads((out / "steps.json").read_text())
    assert [(step["step"], step["documents_in"], step["documents_out"]) for step in counts["steps"]] == [
        ("licence", 7, 6),
        ("quality", 6, 5),
        ("exact_dedup", 5, 4),
        ("near_dedup", 4, 3),
        ("decontamination", 3, 2),
    ]
    for before, after in zip(counts["steps"], counts["steps"][1:], strict=False):
        assert before["bytes_out"] == after["bytes_in"]
    licence = counts["steps"][0]
    assert licence["reasons"] == {"not_allowed": 1}
    assert licence["bytes_in"] - licence["bytes_out"] == corpus[1].bytes
    assert licence["sources"]["other@2"]["documents_in"] == 3
    assert licence["sources"]["here@1"]["reasons"] == {}
    assert counts["total"]["documents_in"] == 7
    assert counts["total"]["bytes_out"] == corpus[0].bytes + corpus[6].bytes
    assert sum(counts["total"]["reasons"].values()) == 5
    assert report.metrics["removed_documents"] == 5
    assert report.tables["removal rates"][0] == {
        "step": "licence",
        "source": "all",
        "documents in": 7,
        "removed": 1,
        "removed %": 14.29,
        "bytes removed %": pytest.approx(100 * corpus[1].bytes / sum(d.bytes for d in corpus), abs=0.01),
        "reasons": "not_allowed 1",
    }


def test_the_order_and_choice_of_steps_is_the_recipes(inputs, corpus, out, report, rows):
    recipe = CleanCorpusRecipe.parse({"steps": ["near_dedup", "licence"]})
    clean_corpus.run(recipe, inputs(corpus=corpus), out, report)
    rejected = {row["path"]: row["step"] for row in rows(out / "rejected.parquet")}
    assert rejected == {"copy.py": "near_dedup", "near.py": "near_dedup", "gpl.py": "licence"}


def test_the_same_corpus_gives_the_same_bytes(inputs, corpus, benchmark, tmp_path, report):
    given = inputs(corpus=corpus, benchmark__toy=benchmark)
    results = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        clean_corpus.run(CleanCorpusRecipe(), given, tmp_path / name, report)
        results.append({path.name: path.read_bytes() for path in (tmp_path / name).glob("*.*")})
    assert results[0] == results[1]
    assert sorted(results[0]) == ["documents.parquet", "rejected.parquet", "steps.json"]
    times = json.loads((tmp_path / "one/_volatile/cpu_seconds.json").read_text())
    assert list(times) == CleanCorpusRecipe().steps


def test_real_files_of_the_standard_library(inputs, document, benchmark, out, report, rows):
    root = Path(sysconfig.get_path("stdlib"))
    names = ["encodings/cp037.py", "encodings/cp500.py", "heapq.py", "textwrap.py", "token.py"]
    texts = {name: (root / name).read_text(encoding="utf-8") for name in names}
    corpus = [document(text, name, licence="PSF-2.0") for name, text in texts.items()]
    clean_corpus.run(CleanCorpusRecipe(), inputs(corpus=corpus, benchmark__toy=benchmark), out, report)
    assert [row["path"] for row in rows(out / "documents.parquet")] == [
        "encodings/cp037.py",
        "heapq.py",
        "textwrap.py",
    ]
    reasons = {row["path"]: row["reason"] for row in rows(out / "rejected.parquet")}
    assert reasons == {"encodings/cp500.py": "near_duplicate", "token.py": "generated"}


def test_everything_may_go_and_is_then_implausible(inputs, document, out, report, rows):
    corpus = [document(code(f"n{n}"), f"{n}.py", licence="GPL-3.0-only") for n in range(30)]
    recipe = CleanCorpusRecipe.parse({"steps": ["licence", "quality"]})
    clean_corpus.run(recipe, inputs(corpus=corpus), out, report)
    assert rows(out / "documents.parquet") == []
    found = implausible_removals(read_steps(out / "steps.json"))
    assert found == [
        Removal(step, source, measure, 1.0, bound)
        for step, bound in (("licence", 0.5), ("total", 0.6))
        for source in ("all", "here@1")
        for measure in ("documents", "bytes")
    ]
    assert "licence removed 100.0% of the documents of all, at most 50.0%" in str(found[0])
    loose = RemovalBounds(licence=1.0, total=1.0)
    assert implausible_removals(read_steps(out / "steps.json"), loose) == []


def test_a_bound_is_judged_per_source_with_enough_documents():
    def count(given, left):
        return {"documents_in": given, "documents_out": left, "bytes_in": 10 * given, "bytes_out": 10 * left}

    sources = {"large": count(1000, 1000), "emptied": count(20, 0), "few": count(19, 0)}
    step = {"step": "near_dedup", **count(1039, 1000), "sources": sources}
    steps = {"steps": [step], "total": {**count(1039, 1000), "sources": {}}}
    found = [(removal.source, removal.measure, removal.rate) for removal in implausible_removals(steps)]
    assert found == [("emptied", "documents", 1.0), ("emptied", "bytes", 1.0)]


def test_bad_inputs_are_named(inputs, corpus, tmp_path, out, report):
    with pytest.raises(CorpusError, match=r"the step decontamination but no benchmark"):
        clean_corpus.run(CleanCorpusRecipe(), inputs(corpus=corpus), out, report)
    recipe = CleanCorpusRecipe.parse({"steps": ["licence"]})
    with pytest.raises(CorpusError, match=r"documents.parquet: there is no such file"):
        clean_corpus.run(recipe, inputs(corpus=tmp_path), out, report)
    for content in (None, "{", "[]", '{"steps": []}'):
        if content is not None:
            (tmp_path / "steps.json").write_text(content)
        with pytest.raises(CorpusError, match=r"steps.json: not the steps.json of a clean corpus"):
            read_steps(tmp_path / "steps.json")


def test_a_corpus_without_a_column_is_named(inputs, tmp_path, out, report):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"document_id": ["a"], "text": ["b"]}), tmp_path / "documents.parquet")
    with pytest.raises(
        CorpusError, match=r"documents.parquet: no column language, path, source, licence, bytes"
    ):
        clean_corpus.run(CleanCorpusRecipe(steps=[]), inputs(corpus=tmp_path), out, report)


def test_every_step_has_a_maker_knobs_and_a_bound():
    names = set(get_args(StepName))
    assert set(STEPS) == names == set(CleanCorpusRecipe().steps)
    assert names <= set(CleanCorpusRecipe.model_fields)
    assert {*names, "total", "min_documents"} == set(RemovalBounds.model_fields)
