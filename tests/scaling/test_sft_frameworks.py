"""Frameworks side by side: what is compared, the table, the scores; and three real frameworks in the end."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codellm_dag.problems.programs import user_message
from codellm_dag.problems.schema import write_problems
from codellm_dag.recipes.frameworks import FrameworkReportRecipe, FrameworksRecipe
from codellm_dag.scaling import sft_frameworks
from codellm_dag.scaling.sft_frameworks import NotComparableError, chosen, comparison, refuse_mixed
from codellm_dag.stages.protocol import Inputs, LocalArtifact
from codellm_dag.training import framework_checkpoint
from codellm_dag.training.environments.framework import environment
from tests.evaluation.conftest import code_problem
from tests.modelkit.tiny import RecordingReport, artifact, save_checkpoint
from tests.tokens.conftest import write_mixture

TRAINING = {
    "optimizer": {"learning_rate": 0.01},
    "batch": {"global_rows": 2},
    "epochs": 20,
    "sequence_length": 128,
}
REPORT = FrameworkReportRecipe.parse(
    {
        "bits_per_byte": {"window_tokens": 128, "stride_tokens": 64},
        "microbench": {"max_new_tokens": 48},
        "scores": {"bootstrap_resamples": 100},
    }
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """A random model, four questions with programs for answers, held-out text, problems of microbench."""
    folder = tmp_path_factory.mktemp("start")
    save_checkpoint(folder / "start", chat=False)
    problems = [code_problem(name) for name in ("f", "g")]
    talks = [
        [
            {"role": "user", "content": user_message(problem)},
            {"role": "assistant", "content": problem.prompt + problem.reference},
        ]
        for problem in problems
    ]
    for name in ("data", "problems"):
        (folder / name).mkdir()
    pq.write_table(pa.table({"messages": talks * 4}), folder / "data" / "train.parquet")
    held = write_mixture(
        folder / "held", {"python": ["def f(x):\n    return x + 1\n" * 4], "go": ["package main\n"]}
    )
    (held / "train.parquet").rename(held / "heldout.parquet")
    write_problems(folder / "problems", problems)
    return Inputs(
        {
            "start": artifact(folder / "start"),
            "data": artifact(folder / "data"),
            "corpus": artifact(held),
            "problems": artifact(folder / "problems"),
        }
    )


def train(name: str, start: Inputs, folder: Path, **changes: Any) -> LocalArtifact:
    """A framework's checkpoint below `folder`."""
    values = {"training": {**TRAINING, **changes}, "backends": [{"name": name}]}
    recipe, out = FrameworksRecipe.parse(values).for_partition(name), folder / name
    out.mkdir(parents=True)
    slots = Inputs({"checkpoint": start["start"], "data": start["data"]})
    framework_checkpoint.run(recipe, slots, out, RecordingReport(folder / f"resume-{name}"))
    return artifact(out)


def compare(start: Inputs, folder: Path, checkpoints: dict[str, LocalArtifact]) -> RecordingReport:
    """The report's tables, of checkpoints by name."""
    slots = {f"checkpoint/{name}": one for name, one in checkpoints.items()}
    slots |= {name: start[name] for name in ("start", "corpus", "problems")}
    report = RecordingReport(folder / "resume")
    report.resume_dir.mkdir(exist_ok=True)
    sft_frameworks.run(REPORT, Inputs(slots), folder, report)
    return report


def test_scores_are_our_own_of_every_checkpoint(start: Inputs, tmp_path: Path) -> None:
    report = compare(start, tmp_path, {"trainer": train("trainer", start, tmp_path)})
    before, after = report.tables["frameworks"]
    assert (before["framework"], after["framework"]) == ("start", "trainer")
    assert (before["pass@1"], after["pass@1"]) == (0.0, 1.0)  # both held-out problems were learnt by heart
    assert after["bits_per_byte"] < before["bits_per_byte"]
    assert after["loss_last"] < 0.5 < after["loss_first"]
    values = json.loads((tmp_path / "report.json").read_text())
    rows = {row["metric"]: row for row in values["scores"]["trainer"]["rows"]}
    assert set(rows) == {"pass@1", "bits_per_byte/go", "bits_per_byte/python"}
    sizes = {"go": 13, "python": 4 * 27}
    bits = sum(rows[f"bits_per_byte/{name}"]["value"] * size for name, size in sizes.items())
    assert after["bits_per_byte"] == pytest.approx(bits / sum(sizes.values()))
    assert values["frameworks"]["trainer"]["loss"][0] == [1, after["loss_first"]]
    assert report.metrics["trainer_pass_at_1"] == 1.0
    again = compare(start, tmp_path, {"trainer": artifact(tmp_path / "trainer")})
    assert any("2 of 2 trials were done by earlier attempts" in line for line in again.messages)


def test_another_recipe_is_not_compared(tmp_path: Path) -> None:
    places = {}
    for name, epochs in (("swift", 1.0), ("trainer", 2.0)):
        (tmp_path / name).mkdir()
        recipe = {"backend": {"name": name}, "epochs": epochs}
        (tmp_path / name / "training.json").write_text(json.dumps({"recipe": recipe}))
        places[name] = artifact(tmp_path / name)
    with pytest.raises(NotComparableError, match=r"trainer was trained with epochs = 2\.0, swift with 1\.0"):
        refuse_mixed(places)
    refuse_mixed({"trainer": places["trainer"]})


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    there = Inputs({"checkpoint/fsdp2": artifact(tmp_path), "checkpoint/swift": artifact(tmp_path)})
    assert list(chosen(FrameworkReportRecipe(), there)) == ["fsdp2", "swift"]
    assert list(chosen(FrameworkReportRecipe(backends=("swift",)), there)) == ["swift"]
    with pytest.raises(NotComparableError, match="backends = verl: no such checkpoint; there: fsdp2, swift"):
        chosen(FrameworkReportRecipe(backends=("swift", "verl")), there)


def test_the_table_by_hand() -> None:
    losses = [[step, 3.0 - step / 10] for step in range(1, 21)]
    scores = {"bits_per_byte": 2.0, "rows": [{"metric": "pass@1", "value": 0.25}]}
    taken = {"tokens_per_second": 7.0}
    rows = comparison(
        {"swift": {"version": "4", "loss": losses}}, {"swift": taken}, {"start": scores, "swift": scores}
    )
    assert rows[0] == {"framework": "start", "bits_per_byte": 2.0, "pass@1": 0.25}
    assert rows[1]["loss_last"] == pytest.approx((1.1 + 1.0) / 2)  # the last two of twenty steps
    assert {"steps": 20, "loss_first": 2.9, "version": "4", **taken}.items() <= rows[1].items()


@pytest.mark.frameworks
def test_one_fine_tuning_by_five_frameworks(start: Inputs, tmp_path: Path) -> None:
    names = ("trainer", "deepspeed", "fsdp2", "llamafactory", "swift")
    for name in names[3:]:
        environment(name).build(print)
    for name in names:  # a process each, as the launcher has it: DeepSpeed leaves a group behind
        process = multiprocessing.get_context("spawn").Process(target=train, args=(name, start, tmp_path))
        process.start()
        process.join()
    report = compare(start, tmp_path, {name: artifact(tmp_path / name) for name in names})
    rows = {row["framework"]: row for row in report.tables["frameworks"]}
    assert set(rows) == {"start", *names}
    for name in names:
        assert rows[name]["steps"] == rows["trainer"]["steps"]
        assert rows[name]["loss_last"] < 0.5 < rows[name]["loss_first"]
        assert rows[name]["pass@1"] == 1.0
    assert rows["swift"]["version"] == environment("swift").version
    for name in ("deepspeed", "fsdp2"):  # the same rows in the same order
        assert rows[name]["loss_last"] == pytest.approx(rows["trainer"]["loss_last"], rel=1e-3)
