"""The stage raw_corpus on small folders."""

from __future__ import annotations

import hashlib
import json

import pytest

from codellm_dag.corpora import raw_corpus
from codellm_dag.corpora.documents import SCHEMA
from codellm_dag.corpora.errors import CorpusError
from codellm_dag.corpora.sources import resolve
from codellm_dag.recipes.corpora import RawCorpusRecipe
from codellm_dag.stages.protocol import Inputs

TEXT = "x = 'ü'\n"


@pytest.fixture
def recipe(tmp_path):
    root = tmp_path / "src"
    (root / "pkg").mkdir(parents=True)
    (root / "pkg/a.py").write_text(TEXT, encoding="utf-8")
    (root / "b.py").write_bytes(b"\xef\xbb\xbfy = 1\r\n")
    (root / "latin.py").write_bytes(b"x = '\xfc'\n")
    (root / "z.py").write_text("")
    source = {"kind": "local_dir", "language": "python", "path": str(root), "licence": "MIT"}
    return RawCorpusRecipe.parse({"sources": [source]})


def test_documents_have_id_bytes_and_origin(recipe, out, report, rows):
    raw_corpus.run(resolve(recipe, "python"), Inputs({}), out, report)
    found = rows(out / "documents.parquet")
    assert [row["path"] for row in found] == ["b.py", "pkg/a.py", "z.py"]
    assert found[1] == {
        "document_id": hashlib.sha256(TEXT.encode()).hexdigest(),
        "text": TEXT,
        "language": "python",
        "path": "pkg/a.py",
        "source": "src",
        "licence": "MIT",
        "bytes": 9,
    }
    assert found[0]["text"] == "y = 1\r\n"
    assert report.metrics == {"files": 4, "documents": 3, "bytes": 16, "unreadable": 1}
    (source,) = json.loads((out / "sources.json").read_text())["sources"]
    assert source["rejected"] == [{"path": "latin.py", "reason": "not UTF-8 at byte 5"}]
    assert (source["files"], source["documents"], source["licence"]) == (4, 3, "MIT")


def test_the_same_sources_give_the_same_bytes(recipe, tmp_path, report):
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        raw_corpus.run(resolve(recipe, "python"), Inputs({}), tmp_path / name, report)
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert files[0] == files[1]
    assert sorted(files[0]) == ["documents.parquet", "sources.json"]


def test_an_unpinned_recipe_is_refused(recipe, out, report):
    with pytest.raises(CorpusError, match=r"'local_dir' is not pinned to its content; call .*resolve"):
        raw_corpus.run(recipe, Inputs({}), out, report)


def test_two_languages_at_once_are_refused(recipe, out, report):
    go = recipe.sources[0].model_copy(update={"language": "go"})
    with pytest.raises(CorpusError, match=r"of one language, this recipe is of .*go.*python"):
        raw_corpus.run(RawCorpusRecipe(sources=[*recipe.sources, go]), Inputs({}), out, report)


def test_a_corpus_of_nothing_readable_is_an_error(recipe, tmp_path, out, report):
    for path in sorted((tmp_path / "src").rglob("*.py")):
        path.write_bytes(b"\xff")
    with pytest.raises(CorpusError, match=r"no source of python has a readable document"):
        raw_corpus.run(resolve(recipe, "python"), Inputs({}), out, report)


def test_the_schema_is_the_contract():
    assert SCHEMA.names == ["document_id", "text", "language", "path", "source", "licence", "bytes"]
