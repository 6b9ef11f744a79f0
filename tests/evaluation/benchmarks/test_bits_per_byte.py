"""The bits_per_byte benchmark: choice of documents, records, scores."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codellm_dag.evaluation.benchmarks.bits_per_byte import BITS_PER_BYTE
from codellm_dag.evaluation.errors import BadInput
from codellm_dag.evaluation.measure_likelihood import heldout_documents, measure_likelihood
from codellm_dag.recipes.evaluation import BitsPerByteRecipe, ReportRecipe, SamplesRecipe
from codellm_dag.stages.protocol import Inputs
from tests.modelkit.tiny import RecordingReport, artifact, save_checkpoint


def mixture(folder: Path, documents: list[tuple[str, str, str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    columns = zip(*documents, strict=True) if documents else ((), (), ())
    ids, languages, texts = (pa.array(list(column), pa.string()) for column in columns)
    pq.write_table(
        pa.table({"document_id": ids, "language": languages, "text": texts}), folder / "heldout.parquet"
    )
    return folder


def test_documents_are_capped_per_language_and_document(tmp_path: Path):
    path = mixture(
        tmp_path,
        [("c", "python", "p" * 300), ("a", "python", "é" * 100), ("b", "go", "g" * 90), ("d", "go", "")],
    )
    recipe = BitsPerByteRecipe(bytes_per_language=256, bytes_per_document=151)
    # In order of ids: "a" keeps 75 whole two-byte characters (150 bytes), "c" the 106 bytes that are left.
    assert heldout_documents(path, recipe) == [
        ("b", "go", "g" * 90),
        ("a", "python", "é" * 75),
        ("c", "python", "p" * 106),
    ]


def test_records_and_scores(tmp_path: Path):
    inputs = Inputs(
        {
            "checkpoint": artifact(save_checkpoint(tmp_path / "checkpoint", chat=False)),
            "corpus": artifact(mixture(tmp_path / "mixture", [("a", "go", "x = 1\n" * 9), ("b", "go", "é")])),
        }
    )
    recipe = SamplesRecipe.parse({"benchmark": "bits_per_byte", "bits_per_byte": {"window_tokens": 256}})
    report = RecordingReport(tmp_path / "resume")
    measured = measure_likelihood(recipe, inputs, report)
    rows = measured.records.to_pylist()
    assert [(row["document_id"], row["language"], row["bytes"]) for row in rows] == [
        ("a", "go", 54),
        ("b", "go", 2),
    ]
    assert report.steps[-1] == (56, 56, "tokens")
    (score,) = BITS_PER_BYTE.scores(measured.records, ReportRecipe())
    assert score.metric == "bits_per_byte/go"
    assert score.value == pytest.approx((rows[0]["bits"] + rows[1]["bits"]) / 56)
    assert score.n == 2
    assert not score.higher_is_better
    assert score.ci_low is not None
    assert score.ci_low <= score.value <= (score.ci_high or 0)


def test_scores_by_hand():
    records = pa.table(
        {
            "document_id": ["a", "b", "c"],
            "language": ["python", "go", "python"],
            "bytes": [10, 8, 30],
            "bits": [10.0, 16.0, 90.0],
        }
    )
    go, python = BITS_PER_BYTE.scores(records, ReportRecipe(confidence=0.6))
    assert (go.metric, go.value, go.n, go.ci_low) == ("bits_per_byte/go", 2.0, 1, None)
    assert (python.metric, python.value, python.n) == ("bits_per_byte/python", 2.5, 2)
    assert (python.ci_low, python.ci_high) == (1.0, 3.0)
    assert [row["document_id"] for row in BITS_PER_BYTE.breakdown(records)] == ["c", "b", "a"]


def test_missing_inputs_are_said(tmp_path: Path):
    with pytest.raises(BadInput, match="slot 'corpus'"):
        measure_likelihood(SamplesRecipe(), Inputs({}), RecordingReport(tmp_path))
    with pytest.raises(BadInput, match=r"heldout.parquet does not exist"):
        heldout_documents(tmp_path, BitsPerByteRecipe())
    with pytest.raises(BadInput, match="holds no text"):
        heldout_documents(mixture(tmp_path / "m", []), BitsPerByteRecipe())
    with pytest.raises(BadInput, match="no document"):
        BITS_PER_BYTE.scores(pa.table({"language": pa.array([], pa.string())}), ReportRecipe())
