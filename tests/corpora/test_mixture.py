"""The stage mixture: shares, held-out documents, and their independence of what comes and goes."""

from __future__ import annotations

import hashlib
import json

import pytest

from codellm_dag.corpora import mixture
from codellm_dag.corpora.errors import CorpusError
from codellm_dag.recipes.corpora import MixtureRecipe


@pytest.fixture
def corpora(document):
    """500 documents of Python of 100 bytes, 200 of Go of 50 bytes."""
    python = [document(f"{n:099d}\n", f"{n}.py") for n in range(500)]
    go = [document(f"{n:049d}\n", f"{n}.go", language="go") for n in range(200)]
    return {"corpus__python": python, "corpus__go": go}


@pytest.fixture
def mix(inputs, out, report, rows):
    """Runs the stage and returns the rows of both parts and the summary."""

    def run(slots, **knobs):
        mixture.run(MixtureRecipe.parse(knobs), inputs(**slots), out, report)
        summary = json.loads((out / "mixture.json").read_text())
        return rows(out / "train.parquet"), rows(out / "heldout.parquet"), summary

    return run


def _drawn(document_id: str, purpose: str, seed: int = 0) -> float:
    digest = hashlib.sha256(f"{seed}:{purpose}:{document_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def test_the_natural_mixture_takes_every_document_once(corpora, mix, report):
    train, heldout, summary = mix(corpora)
    ids = [row["document_id"] for row in train + heldout]
    assert sorted(ids) == sorted(d.document_id for slot in corpora.values() for d in slot)
    expected = {
        d.document_id for slot in corpora.values() for d in slot if _drawn(d.document_id, "heldout") < 0.05
    }
    assert {row["document_id"] for row in heldout} == expected
    assert 10 < len(expected) < 60
    assert [row["language"] for row in train] == sorted(row["language"] for row in train)
    python = summary["languages"]["python"]
    assert python["documents"] == sum(row["language"] == "python" for row in train)
    assert python["bytes"] == 100 * python["documents"]
    assert python["weight"] == pytest.approx(python["bytes"] / summary["train"]["bytes"], abs=1e-6)
    assert summary["train"]["bytes"] + summary["heldout"]["bytes"] == 500 * 100 + 200 * 50
    assert report.metrics["heldout_documents"] == len(heldout)


def test_weights_cut_and_never_repeat(corpora, mix):
    weights = [{"language": "python", "weight": 1}, {"language": "go", "weight": 1}]
    train, _, summary = mix(corpora, weights=weights, heldout_fraction=0)
    assert summary["languages"]["go"]["bytes"] == summary["languages"]["python"]["bytes"] == 10_000
    assert summary["languages"]["python"]["left_out_documents"] == 400
    kept = {row["document_id"] for row in train if row["language"] == "python"}
    ranked = sorted((d.document_id for d in corpora["corpus__python"]), key=lambda key: _drawn(key, "train"))
    assert kept == set(ranked[:100])


def test_weights_can_count_documents(corpora, mix):
    weights = [{"language": "python", "weight": 3}, {"language": "go", "weight": 2}]
    _, _, summary = mix(corpora, weights=weights, weigh_by="documents", heldout_fraction=0)
    assert summary["languages"]["python"]["documents"] == 300
    assert summary["languages"]["go"]["documents"] == 200
    assert summary["languages"]["python"]["weight"] == 0.6


def test_a_language_without_weight_or_corpus_is_left_out_and_said(corpora, mix, report):
    weights = [{"language": "python", "weight": 1}, {"language": "rust", "weight": 9}]
    train, _, summary = mix(corpora, weights=weights, heldout_fraction=0)
    assert {row["language"] for row in train} == {"python"}
    assert list(summary["languages"]) == ["python"]
    assert report.lines == [
        "go is left out of the mixture: it is not in the weights",
        "rust is left out of the mixture: it is not among the corpora",
    ]


def test_the_total_can_be_limited(corpora, mix):
    _, _, summary = mix(corpora, max_train_bytes=12_000, heldout_fraction=0)
    assert summary["languages"]["python"]["bytes"] == 10_000
    assert summary["languages"]["go"]["bytes"] == 2_000


def test_held_out_bytes_are_capped_and_the_rest_is_trained_on(corpora, mix):
    train, heldout, summary = mix(corpora, heldout_fraction=0.5, max_heldout_bytes=1000)
    assert summary["languages"]["python"]["heldout_bytes"] == 1000
    assert summary["languages"]["go"]["heldout_documents"] == 20
    assert len(train) + len(heldout) == 700


def test_a_document_stays_held_out_when_others_go(corpora, inputs, mix, tmp_path, report, rows):
    _, heldout, _ = mix(corpora)
    fewer = {"corpus__python": corpora["corpus__python"][::2]}
    (tmp_path / "fewer").mkdir()
    folder = tmp_path / "half"
    folder.mkdir()
    from codellm_dag.corpora.documents import write_documents

    write_documents(folder / "documents.parquet", fewer["corpus__python"])
    mixture.run(MixtureRecipe(), inputs(corpus__python=folder), tmp_path / "fewer", report)
    left = {row["document_id"] for row in rows(tmp_path / "fewer/heldout.parquet")}
    before = {row["document_id"] for row in heldout if row["language"] == "python"}
    assert left == before & {d.document_id for d in fewer["corpus__python"]}


def test_a_text_of_two_languages_is_taken_once(document, mix):
    slots = {
        "corpus__javascript": [document("let a = 1;\n", "a.js", language="javascript")],
        "corpus__typescript": [
            document("let a = 1;\n", "a.ts", language="typescript"),
            document("let b: number;\n", "b.ts", language="typescript"),
        ],
    }
    train, _, summary = mix(slots, heldout_fraction=0)
    assert [row["path"] for row in train] == ["a.js", "b.ts"]
    assert summary["languages"]["typescript"]["left_out_documents"] == 1


def test_an_empty_corpus_of_a_weighted_language_does_not_empty_the_rest(corpora, mix):
    weights = [{"language": "python", "weight": 1}, {"language": "go", "weight": 1}]
    train, _, _ = mix({**corpora, "corpus__go": []}, weights=weights, heldout_fraction=0)
    assert len(train) == 500


def test_the_same_corpora_give_the_same_bytes(corpora, inputs, tmp_path, report):
    given = inputs(**corpora)
    results = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        mixture.run(MixtureRecipe(), given, tmp_path / name, report)
        results.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert results[0] == results[1]
    assert sorted(results[0]) == ["heldout.parquet", "mixture.json", "train.parquet"]


def test_a_mixture_of_nothing_is_an_error(mix, document):
    with pytest.raises(CorpusError, match=r"the mixture has no corpus as input"):
        mix({})
    with pytest.raises(CorpusError, match=r"none of the weighted languages \(rust\) has a corpus"):
        mix({"corpus__go": [document("x\n")]}, weights=[{"language": "rust", "weight": 1}])
    with pytest.raises(CorpusError, match=r"no document to train on"):
        mix({"corpus__python": []})
