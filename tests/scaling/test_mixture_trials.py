"""Planned against equal shares: rows by share, the table by hand, and real trials of two languages."""

from __future__ import annotations

import inspect
import json
import string
import textwrap

import pyarrow.parquet as pq
import pytest

from codellm_dag.evaluation.measure_likelihood import HELDOUT_FILE
from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.scaling import MixtureTrialsRecipe
from codellm_dag.recipes.tokens import ShardsRecipe, TokenizerRecipe
from codellm_dag.scaling import mixture_trials
from codellm_dag.scaling.mixture_trials import AllocatedRows, shared_out, summary
from codellm_dag.stages.protocol import Inputs, Stopped
from codellm_dag.tokens import token_shards, tokenizer
from codellm_dag.training.rows import ShardRows
from tests.modelkit.tiny import RecordingReport, artifact
from tests.tokens.conftest import write_mixture

RECIPE = MixtureTrialsRecipe.parse(
    {
        "training": {
            "model": {"hidden_size": 32, "layers": 1, "heads": 1, "kv_heads": 1, "intermediate_size": 64},
            "optimizer": {"name": "muon", "learning_rate": 0.02},
            "batch": {"global_rows": 4},
            "tokens": 40 * 4 * 64,
            "seed": 5,
        },
        "seeds": 2,
        "bits_per_byte": {"bytes_per_language": 2048, "window_tokens": 64, "stride_tokens": 32},
    }
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Shards of two languages, one of which shouts, and a mixture that plans 90 % of the other."""
    folder = tmp_path_factory.mktemp("trials")
    sources = {
        "python": inspect.getsource(textwrap),
        "rust": (inspect.getsource(string) + inspect.getsource(textwrap)).upper(),
    }
    train = {language: [text[:12_000]] for language, text in sources.items()}
    corpus = artifact(write_mixture(folder / "mixture", train))
    held = write_mixture(folder / "held", {language: [text[12_000:]] for language, text in sources.items()})
    pq.write_table(pq.read_table(held / "train.parquet"), corpus.path / HELDOUT_FILE)
    planned = {"languages": {"python": {"bytes": 9000}, "rust": {"bytes": 1000}}}
    (corpus.path / "mixture.json").write_text(json.dumps(planned))
    report = RecordingReport(folder)
    (folder / "tokenizer").mkdir()
    tokenizer.run(
        TokenizerRecipe(vocabulary_size=400), Inputs({"corpus": corpus}), folder / "tokenizer", report
    )
    slots = {"tokenizer": artifact(folder / "tokenizer"), "corpus": corpus}
    for language in sources:
        (folder / language).mkdir()
        recipe = ShardsRecipe(language=language, sequence_length=64)  # type: ignore[arg-type]
        token_shards.run(recipe, Inputs(slots), folder / language, report)
    return Inputs({**slots, **{f"shards/{language}": artifact(folder / language) for language in sources}})


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        (10, {"a": 1.0, "b": 1.0}, {"a": 5, "b": 5}),
        (10, {"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 4, "b": 3, "c": 3}),  # equal rests: by name
        (7, {"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 4, "b": 2, "c": 1}),  # 3.5, 2.1, 1.4
        (3, {"a": 100.0, "b": 1.0}, {"a": 3, "b": 0}),
    ],
)
def test_rows_are_shared_out_to_the_last(total, weights, parts):
    assert shared_out(total, weights) == parts


def test_rows_come_from_each_source_by_its_share_and_repeat_only_when_all_were_read(inputs):
    sources = {name: ShardRows([inputs[f"shards/{name}"].path]) for name in ("python", "rust")}
    count = len(sources["rust"])
    rows = AllocatedRows(sources, {"python": 5, "rust": count + 3}, seed=1)
    assert (len(rows), rows.sequence_length) == (5 + count + 3, 64)

    def keys(source, numbers):
        return [source.row(number).tokens.tobytes() for number in numbers]

    own = {name: keys(source, range(len(source))) for name, source in sources.items()}
    read = keys(rows, range(len(rows)))
    assert set(read[:5]) <= set(own["python"])
    assert len(set(read[:5])) == 5
    assert sorted(read[5 : 5 + count]) == sorted(own["rust"])
    assert set(read[5 + count :]) <= set(own["rust"])
    assert keys(AllocatedRows(sources, {"python": 5, "rust": 0}, seed=2), range(5)) != read[:5]


def test_the_table_worked_out_by_hand():
    trials = {
        "planned": [
            {"go": {"bits": 10.0, "bytes": 10}, "rust": {"bits": 60.0, "bytes": 30}},
            {"go": {"bits": 12.0, "bytes": 10}, "rust": {"bits": 66.0, "bytes": 30}},
        ],
        "uniform": [
            {"go": {"bits": 14.0, "bytes": 10}, "rust": {"bits": 60.0, "bytes": 30}},
            {"go": {"bits": 18.0, "bytes": 10}, "rust": {"bits": 60.0, "bytes": 30}},
        ],
    }
    shares = {"planned": {"go": 30, "rust": 10}, "uniform": {"go": 20, "rust": 20}}
    go, rust, both = summary(trials, {"go": 60, "rust": 5}, shares, RECIPE)
    assert (go["planned_share"], go["uniform_share"]) == (0.75, 0.5)
    assert (go["planned_epochs"], rust["uniform_epochs"]) == (0.5, 4.0)
    assert (go["planned_bits_per_byte"], go["uniform_bits_per_byte"]) == pytest.approx((1.1, 1.6))
    assert (go["planned_noise"], go["uniform_noise"]) == pytest.approx((0.2, 0.4))
    # Differences -0.4 and -0.6: standard deviation 0.1414, t of one degree 12.706, over the root of 2.
    assert (go["value"], go["ci_low"], go["ci_high"]) == pytest.approx((-0.5, -1.7706, 0.7706), abs=1e-3)
    assert rust["value"] == pytest.approx(0.1)
    # All documents: 70 and 78 of 40 bytes against 74 and 78.
    assert (both["language"], both["value"]) == ("all", pytest.approx(-0.05))
    assert (both["planned_share"], both["n"]) == (1.0, 2)


def test_trials_of_two_languages(inputs, tmp_path):
    for name in ("whole", "stopped", "whole-resume", "stopped-resume"):
        (tmp_path / name).mkdir()
    report = RecordingReport(tmp_path / "whole-resume")
    mixture_trials.run(RECIPE, inputs, tmp_path / "whole", report)
    found = json.loads((tmp_path / "whole/report.json").read_text())
    assert found["rows"] == {"planned": {"python": 144, "rust": 16}, "uniform": {"python": 80, "rust": 80}}
    assert found["seeds"] == [5, 6]
    python, rust, both = report.tables["differences"]
    assert python["value"] < -0.05, "the language with more of the rows is learnt better"
    assert rust["value"] > 0.05
    assert report.metrics["all_difference"] == both["value"]
    for name in ("planned", "uniform"):
        counted = {key: trial["bytes"] for trial in found["trials"][name] for key, trial in trial.items()}
        assert counted == {"python": 2048, "rust": 2048}, "the same documents for all"
    assert report.worked[0] == 4 * 160 * 64

    stopped = RecordingReport(tmp_path / "stopped-resume")
    stopped.stop_requested = lambda: stopped.worked[0] > 1.5 * 160 * 64
    with pytest.raises(Stopped):
        mixture_trials.run(RECIPE, inputs, tmp_path / "stopped", stopped)
    again = RecordingReport(tmp_path / "stopped-resume")
    mixture_trials.run(RECIPE, inputs, tmp_path / "stopped", again)
    assert [line for line in again.messages if line.startswith("1 of 4 trials were done by earlier")]
    assert [line for line in again.messages if "resuming from checkpoint-" in line]
    assert (tmp_path / "stopped/report.json").read_bytes() == (tmp_path / "whole/report.json").read_bytes()


def test_bad_input(inputs, tmp_path):
    def run(recipe: MixtureTrialsRecipe, **slots) -> None:
        given = {slot: inputs[slot] for slot in inputs if slot != "shards/rust" or not slots}
        mixture_trials.run(recipe, Inputs(given), tmp_path, RecordingReport(tmp_path))

    with pytest.raises(
        InvalidRecipeError, match="1 languages have shards and held-out documents; at least 2"
    ):
        run(RECIPE, without="rust")
    planned = {"planned": [{"language": "python", "weight": 1.0}, {"language": "go", "weight": 1.0}]}
    with pytest.raises(
        InvalidRecipeError, match=r"planned = go, python: go, rust has no weight, or no shard"
    ):
        run(RECIPE.with_changes(planned))
    with pytest.raises(InvalidRecipeError, match=r"training.backend.name=fsdp2: allowed: trainer"):
        RECIPE.with_changes({"training.backend.name": "fsdp2"})
    twice = {"planned": [{"language": "go", "weight": 1.0}] * 2}
    with pytest.raises(InvalidRecipeError, match="planned=go, go: give each language one weight"):
        RECIPE.with_changes(twice)
