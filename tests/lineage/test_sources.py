"""The leaves: source files, their licences, and what became of them."""

from __future__ import annotations

import hashlib
import shutil

import pytest
from toy_life_cycle import LifeCycle

from codellm_dag.lineage.errors import LineageError
from codellm_dag.lineage.graph import ancestry
from codellm_dag.lineage.sources import list_files, raw_corpora, summarise
from codellm_dag.store import Store


def test_summary_counts_documents_and_bytes(store: Store, life_cycle: LifeCycle) -> None:
    root = ancestry(store, life_cycle.run()["sft"])
    (corpus,) = raw_corpora(root)
    (summary,) = summarise(store, corpus)
    size = sum(path.stat().st_size for path in life_cycle.folder.glob("*.py"))
    assert (summary.language, summary.source, summary.licence) == ("python", "toy-stdlib", "PSF-2.0")
    assert (summary.documents, summary.bytes) == (5, size)


def test_files_with_digest_and_fate(store: Store, life_cycle: LifeCycle) -> None:
    root = ancestry(store, life_cycle.run(clean_corpus={"min_bytes": 200})["sft"])
    files = {file.path: file for file in list_files(store, root)}
    # abc (128 bytes) and this (170) are too short; of bisect, heapq, queue every third is held out
    assert {path: file.fate for path, file in files.items()} == {
        "abc.py": "removed: quality (short)",
        "bisect.py": "heldout",
        "heapq.py": "train",
        "queue.py": "train",
        "this.py": "removed: quality (short)",
    }
    text = (life_cycle.folder / "heapq.py").read_bytes()
    assert files["heapq.py"].sha256 == hashlib.sha256(text).hexdigest()
    assert files["heapq.py"].licence == "PSF-2.0"


def test_grep(store: Store, life_cycle: LifeCycle) -> None:
    root = ancestry(store, life_cycle.run()["sft"])
    assert [file.path for file in list_files(store, root, "^(heap|bi)")] == ["bisect.py", "heapq.py"]
    assert list_files(store, root, "nothing") == []
    with pytest.raises(LineageError, match=r"--grep '\[' is not a regular expression"):
        list_files(store, root, "[")


def test_a_deleted_corpus_is_said(store: Store, life_cycle: LifeCycle) -> None:
    report = life_cycle.run()["sft"]
    raw = life_cycle.made["raw_corpus/python"].artifact
    shutil.rmtree(store.work_root / "artifacts" / "raw_corpus" / raw.fingerprint)
    with pytest.raises(LineageError, match=r"raw_corpus\[python\] is no longer in"):
        list_files(store, ancestry(store, report))


def test_a_damaged_corpus_is_said(store: Store, life_cycle: LifeCycle) -> None:
    report = life_cycle.run()["sft"]
    path = store.local_path(life_cycle.made["raw_corpus/python"].artifact) / "documents.parquet"
    path.chmod(0o644)
    path.write_bytes(b"no parquet")
    with pytest.raises(LineageError, match=r"documents.parquet of .*codellm-dag verify"):
        list_files(store, ancestry(store, report))
