"""Rows of a local Hugging Face dataset folder, as Parquet and as JSON lines; nothing uses the network."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.sources import open_source, resolve
from codellm_dag.recipes.corpora import RawCorpusRecipe

ROWS = [
    {"content": "package a\n", "where": "a.go", "licences": ["MIT"]},
    {"content": "package b // ü\n", "where": "b.go", "licences": ["MIT", "GPL-2.0-only OR MIT"]},
    {"content": "package c\n", "where": "c.go", "licences": []},
]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), root / "train.parquet")
    return root


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def _source(folder, **more):
    values = {"kind": "hf_dataset", "language": "go", "path": str(folder), "text_column": "content"}
    recipe = RawCorpusRecipe.parse({"sources": [{**values, "licence": "ISC", **more}]})
    return resolve(recipe, "go").sources[0]


def test_rows_become_files_in_order(folder):
    source = _source(folder, path_column="where", licence_column="licences")
    assert source.name == "set"
    found = [(file.path, file.content.decode(), file.licence) for file in open_source(source).read()]
    assert found == [
        ("a.go", "package a\n", "MIT"),
        ("b.go", "package b // ü\n", "MIT AND (GPL-2.0-only OR MIT)"),
        ("c.go", "package c\n", "ISC"),
    ]


def test_json_lines_work_too_and_take_cuts_the_stream(tmp_path):
    root = tmp_path / "lines"
    root.mkdir()
    (root / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    files = list(open_source(_source(root, take=2)).read())
    assert [(file.path, file.licence) for file in files] == [
        ("row-000000000", "ISC"),
        ("row-000000001", "ISC"),
    ]
    assert len(list(open_source(_source(root, max_bytes=10)).read())) == 1


def test_a_changed_folder_is_another_recipe(folder):
    before = _source(folder)
    pq.write_table(pa.Table.from_pylist(ROWS[:2]), folder / "train.parquet")
    assert _source(folder).content_digest != before.content_digest
    with pytest.raises(CorpusError, match=r"its files are not those of the recipe"):
        list(open_source(before).read())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text_column": "code"}, r"no column 'code' \(text_column\); it has content, licences, where"),
        ({"path_column": "file"}, r"no column 'file' \(path_column\)"),
        ({"split": "test"}, "split 'test': cannot be read"),
    ],
)
def test_what_is_not_there_is_named(folder, values, message):
    with pytest.raises(CorpusError, match=message):
        list(open_source(_source(folder, **values)).read())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"nowhere: there is no such folder"):
        _source(tmp_path / "nowhere")


def test_a_hub_dataset_is_pinned_by_its_revision():
    values = {"kind": "hf_dataset", "language": "go", "dataset": "org/code", "licence": "MIT"}
    recipe = RawCorpusRecipe.parse({"sources": [{**values, "revision": "ab" * 20}]})
    assert resolve(recipe, "go").sources[0].name == "org.code@abababababab"
