"""Shards: the layout on disk by hand, what comes back, fill-in-the-middle that can be undone, bad folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from codellm_dag.recipes.tokens import ShardsRecipe
from codellm_dag.stages.protocol import Inputs
from codellm_dag.tokens import token_shards, tokenizer
from codellm_dag.tokens.corpus import Document, InvalidCorpusError, read_documents
from codellm_dag.tokens.packing import Span
from codellm_dag.tokens.pieces import PieceCutter
from codellm_dag.tokens.shards import InvalidShardError, Shard, write_shard
from tests.modelkit.tiny import RecordingReport, artifact

INDEX = {"documents": 2, "language": "python", "sequence_length": 4, "vocabulary_size": 50}


def test_files_by_hand(tmp_path: Path) -> None:
    rows = [[Span(1, 0, 3)], [Span(0, 0, 2), Span(2, 0, 1)]]
    index = write_shard(tmp_path, [[10, 11], [20, 21, 22], [30]], rows, 9, INDEX)
    assert (tmp_path / "tokens.bin").read_bytes() == bytes(
        [20, 0, 21, 0, 22, 0, 9, 0, 10, 0, 11, 0, 30, 0, 9, 0]
    )
    assert np.fromfile(tmp_path / "documents.bin", "<i8").tolist() == [0, 4, 6, 8]
    assert np.fromfile(tmp_path / "used.bin", "<i4").tolist() == [3, 3]
    assert {key: index[key] for key in ("dtype", "rows", "pieces", "tokens", "padding")} == {
        "dtype": "uint16", "rows": 2, "pieces": 3, "tokens": 6, "padding": 2,
    }  # fmt: skip
    shard = Shard(tmp_path)
    assert len(shard) == 2
    tokens, positions, used = shard.row(1)
    assert (tokens.tolist(), positions.tolist(), used) == ([10, 11, 30, 9], [0, 1, 0, 1], 3)


def test_large_vocabularies_take_four_bytes(tmp_path: Path) -> None:
    index = write_shard(tmp_path, [[70_000]], [[Span(0, 0, 1)]], 0, INDEX | {"vocabulary_size": 70_001})
    assert index["dtype"] == "uint32"
    assert Shard(tmp_path).row(0).tokens[0] == 70_000


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidShardError, match=r"index\.json does not exist"):
        Shard(tmp_path)
    write_shard(tmp_path, [[1]], [[Span(0, 0, 1)]], 0, INDEX)
    (tmp_path / "tokens.bin").write_bytes(b"12345")
    with pytest.raises(InvalidShardError, match=r"tokens\.bin has 5 bytes; index\.json says 8 bytes"):
        Shard(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"rows": 1}))
    with pytest.raises(InvalidShardError, match="lacks one of"):
        Shard(tmp_path)


def run(recipe: ShardsRecipe, mixture: Path, vocabulary: Path, out: Path) -> RecordingReport:
    out.mkdir()
    report = RecordingReport(out)
    inputs = Inputs({"corpus": artifact(mixture), "tokenizer": artifact(vocabulary)})
    token_shards.run(recipe, inputs, out, report)
    return report


@pytest.mark.parametrize("packing", ["best_fit", "sequential"])
def test_text_comes_back_from_the_rows(mixture: Path, vocabulary: Path, tmp_path: Path, packing: str) -> None:
    recipe = ShardsRecipe.parse(
        {"language": "python", "sequence_length": 64, "fim_rate": 0, "packing": packing}
    )
    report = run(recipe, mixture, vocabulary, tmp_path / "out")
    shard, loaded = Shard(tmp_path / "out"), tokenizer.load(vocabulary)
    rows = [shard.row(number) for number in range(len(shard))]
    text = "".join(
        loaded.decode(tokens[:used].tolist(), skip_special_tokens=True) for tokens, _, used in rows
    )
    documents = [document.text for document in read_documents(mixture, "python")]
    if packing == "sequential":
        assert text == "".join(documents)
    assert sorted(text) == sorted("".join(documents))
    ends = sum(int((tokens[:used] == 0).sum()) for tokens, _, used in rows)
    assert ends == len(documents) == report.metrics["documents"]
    assert report.metrics["tokens"] == sum(used for _, _, used in rows)


def test_same_bytes_again_and_other_bytes_with_another_seed(
    mixture: Path, vocabulary: Path, tmp_path: Path
) -> None:
    seen = []
    for number, seed in enumerate((3, 3, 4)):
        run(
            ShardsRecipe(language="python", fim_rate=0.5, seed=seed),
            mixture,
            vocabulary,
            tmp_path / str(number),
        )
        seen.append({path.name: path.read_bytes() for path in sorted((tmp_path / str(number)).iterdir())})
    assert seen[0] == seen[1]
    assert seen[0]["tokens.bin"] != seen[2]["tokens.bin"]


def test_rewritten_pieces_can_be_put_back_together(mixture: Path, vocabulary: Path) -> None:
    loaded = tokenizer.load(vocabulary)
    recipe = ShardsRecipe(sequence_length=64, fim_rate=1.0, fim_spm_rate=0.5)
    cutter = PieceCutter(loaded, recipe)
    prefix, middle, suffix = cutter.fim_ids
    orders = set()
    for document, pieces in cutter.pieces(read_documents(mixture, "python")):
        text = ""
        for piece in pieces:
            assert len(piece) <= 64
            tokens = [token for token in piece if token != cutter.end_of_text]
            if prefix not in tokens:
                text += loaded.decode(tokens)
                continue
            after_suffix, at_middle = tokens.index(suffix), tokens.index(middle)
            ending = loaded.decode(tokens[after_suffix + 1 : at_middle])
            orders.add("spm" if after_suffix == 1 and ending else "psm")
            text += loaded.decode(tokens[1:after_suffix]) + loaded.decode(tokens[at_middle + 1 :]) + ending
        assert text == document.text
    assert orders == {"psm", "spm"}
    assert cutter.rewritten > 0.9 * 100


def test_a_document_that_fills_its_row_gets_its_end_token_in_a_piece_of_its_own(vocabulary: Path) -> None:
    cutter = PieceCutter(tokenizer.load(vocabulary), ShardsRecipe(sequence_length=16, fim_rate=0))
    documents = [Document("a", "1" * 16, "python"), Document("b", "2" * 15, "python")]  # digits are tokens
    assert [[len(piece) for piece in pieces] for _, pieces in cutter.pieces(documents)] == [[16, 1], [16]]


def test_an_unknown_language_is_refused_with_those_there_are(
    mixture: Path, vocabulary: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidCorpusError, match="no document of language 'cobol'; it has: go, python"):
        run(ShardsRecipe(language="cobol"), mixture, vocabulary, tmp_path / "out")
