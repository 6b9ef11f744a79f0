"""A study that is killed goes on with the trial it was at, to the same bytes, and counts nothing twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from codellm_dag.recipes.scaling import GrowthRecipe
from codellm_dag.scaling import critical_batch_size, model_growth, scaling_ladder
from codellm_dag.scaling.study import Study
from codellm_dag.stages.protocol import Inputs, Stopped, is_complete
from codellm_dag.training.rows import ShardRows
from tests.modelkit.tiny import RecordingReport
from tests.scaling.test_critical_batch_size import RECIPE as CRITICAL
from tests.scaling.test_scaling_ladder import RECIPE as LADDER

GROWTH = GrowthRecipe.parse(
    {
        "model": {"hidden_size": 16, "layers": 1, "heads": 1, "kv_heads": 1, "intermediate_size": 32},
        "optimizer": {"name": "muon", "learning_rate": 0.01},
        "global_rows": 2,
        "small_tokens": 1024,
        "tokens": 1024,
        "evaluate_every": 512,
        "evaluation_rows": 8,
        "warmup_steps": 2,
    }
)
SMALL_LADDER = LADDER.with_changes({"tokens": [512, 1024], "held_out_tokens": 2560})
STUDIES = {
    "scaling_ladder": (scaling_ladder, SMALL_LADDER, 5),
    "critical_batch_size": (critical_batch_size, CRITICAL, 8),
    "model_growth": (model_growth, GROWTH, 5),
}
"""Stage, recipe, and how many trials it has."""


def inputs_of(stage: str, ladder_inputs: Inputs) -> Inputs:
    return ladder_inputs if stage == "scaling_ladder" else Inputs({"shards/python": ladder_inputs["shards"]})


def run(stage: str, inputs: Inputs, folder: Path, **more: Any) -> RecordingReport:
    """Run the stage with ``folder/out`` and ``folder/resume``."""
    for name in ("out", "resume"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    report = RecordingReport(folder / "resume", **more)
    module, recipe, _ = STUDIES[stage]
    module.run(recipe, inputs, folder / "out", report)
    return report


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "out").iterdir())}


Whole = Callable[[str], tuple[Path, RecordingReport]]


@pytest.fixture(scope="module")
def whole(ladder_inputs, tmp_path_factory) -> Whole:
    """A study's undisturbed run."""

    @cache
    def once(stage: str) -> tuple[Path, RecordingReport]:
        folder = tmp_path_factory.mktemp(stage)
        return folder, run(stage, inputs_of(stage, ladder_inputs), folder)

    return once


def goes_on(stage: str, inputs: Inputs, folder: Path, whole: Whole, told: tuple[int, float]) -> list[str]:
    """A second attempt in `folder` makes what one does alone; the first had told of its work, `told`.

    Returns the lines that it logged.
    """
    expected_folder, expected = whole(stage)
    report = run(stage, inputs, folder)
    kept = f"3 of {STUDIES[stage][2]} trials were done by earlier attempts: "
    assert [message for message in report.messages if message.startswith(kept)]
    assert written(folder) == written(expected_folder)
    assert report.points == expected.points
    assert (report.metrics, report.tables) == (expected.metrics, expected.tables)
    assert report.steps[0][0] > expected.steps[0][0]  # the bar begins behind what was kept
    assert report.steps[-1] == pytest.approx(expected.steps[-1])
    # Both attempts together did what one would have done, and again what was lost: less than a trial's.
    tokens, flops = told[0] + report.worked[0], told[1] + report.worked[1]
    assert expected.worked[0] <= tokens < expected.worked[0] * 1.2
    assert expected.worked[1] <= flops < expected.worked[1] * 1.2
    return report.messages


CHILD = """
import os, signal, sys
from pathlib import Path
from codellm_dag.scaling import study
from codellm_dag.stages.protocol import Inputs
from tests.modelkit.tiny import artifact
from tests.scaling import test_study as here

keep, step, kept = study.Study._keep, here.RecordingReport.work, []
def counted(self, name, *args):
    kept.append(name)
    return keep(self, name, *args)
def work(self, tokens, flops):
    step(self, tokens, flops)
    print(tokens, flops, flush=True)
    if len(kept) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
study.Study._keep, here.RecordingReport.work = counted, work
inputs = Inputs({"shards/python": artifact(Path(sys.argv[1]))})
here.run("critical_batch_size", inputs, Path(sys.argv[2]))
"""


def test_a_killed_study_goes_on_with_its_fourth_trial(whole, ladder_inputs, tmp_path):
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(ladder_inputs["shards"].path), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert ended.returncode == -signal.SIGKILL
    tokens, flops = ended.stdout.splitlines()[-1].split()
    inputs = inputs_of("critical_batch_size", ladder_inputs)
    goes_on("critical_batch_size", inputs, tmp_path, whole, (int(tokens), float(flops)))


def test_a_study_that_failed_goes_on_with_its_fourth_trial(whole, ladder_inputs, tmp_path):
    class Failing(RecordingReport):
        def work(self, tokens: int, flops: float | None) -> None:
            super().work(tokens, flops)
            if tokens > 3.5 * 1024:
                raise ConnectionError("the disk is gone")

    inputs = inputs_of("model_growth", ladder_inputs)
    report = Failing(tmp_path / "resume")
    for name in ("out", "resume"):
        (tmp_path / name).mkdir()
    with pytest.raises(ConnectionError):
        model_growth.run(GROWTH, inputs, tmp_path / "out", report)
    goes_on("model_growth", inputs, tmp_path, whole, report.worked)


def test_a_ladder_that_is_stopped_goes_on_within_its_fourth_point(whole, ladder_inputs, tmp_path):
    report = RecordingReport(tmp_path / "resume")
    report.stop_requested = lambda: report.worked[0] > 512 + 1024 + 512
    for name in ("out", "resume"):
        (tmp_path / name).mkdir()
    with pytest.raises(Stopped):
        scaling_ladder.run(SMALL_LADDER, ladder_inputs, tmp_path / "out", report)
    assert list((tmp_path / "resume").glob("checkpoint-[123]"))
    lines = goes_on("scaling_ladder", ladder_inputs, tmp_path, whole, report.worked)
    assert [line for line in lines if "16x1-1024: resuming from checkpoint-" in line]


@pytest.mark.parametrize("stage", STUDIES)
def test_the_bar_goes_once_over_the_whole_study(stage, whole):
    steps = whole(stage)[1].steps
    assert {(total, unit) for _, total, unit in steps} == {(steps[0][1], "MFLOP")}
    assert [done for done, _, _ in steps] == sorted(done for done, _, _ in steps)
    assert steps[0][0] < steps[0][1] / 10
    assert steps[-1][0] == pytest.approx(steps[-1][1])


def test_the_bar_and_the_work_count_the_same_flops(whole):
    _, report = whole("model_growth")
    assert report.worked == (5 * 1024, pytest.approx(report.steps[-1][1] * 1e6, rel=1e-3))


def test_the_ladders_flops_are_the_trainers(whole):
    _, report = whole("scaling_ladder")
    assert report.worked == (2 * (512 + 1024) + 2560, pytest.approx(report.steps[-1][1] * 1e6, rel=1e-3))


def study(folder: Path, identity: str = "one", **more) -> Study:
    return Study(RecordingReport(folder, **more), identity, {"a": 1.0, "b": 3.0})


def test_results_are_the_same_fresh_and_kept(tmp_path):
    fresh = study(tmp_path).trial("a", lambda _: {"curve": [(1, 0.1 + 0.2)], "worst": float("inf")})
    kept = study(tmp_path).trial("a", lambda _: pytest.fail("done already"))
    assert fresh == kept == {"curve": [[1, 0.1 + 0.2]], "worst": float("inf")}


def test_another_studys_trials_are_not_taken(tmp_path):
    study(tmp_path, "one").trial("a", lambda _: 1, save=lambda folder: (folder / "state").touch())
    other = study(tmp_path, "two")
    assert not other.is_done("a")
    assert other.trial("a", lambda _: 2) == 2
    assert [path.name for path in other.files("a").iterdir()] == ["result.json"]
    assert study(tmp_path, "two").trial("a", lambda _: 3) == 2


def test_a_trial_is_whole_or_absent(tmp_path):
    def fail(folder: Path) -> None:
        (folder / "state").touch()
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        study(tmp_path).trial("a", lambda _: 1, save=fail)
    assert not [path for path in tmp_path.iterdir() if is_complete(path.name)]
    again = study(tmp_path)
    assert again.trial("a", lambda _: 2, save=lambda folder: (folder / "more").touch()) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["trial-a"]
    assert json.loads((again.files("a") / "result.json").read_text()) == {"identity": "one", "result": 2}


def test_asked_to_end_within_a_trial_and_between_two(tmp_path):
    asked = iter([False, False, True])
    begun = study(tmp_path, stop_requested=lambda: next(asked))
    with pytest.raises(Stopped, match="asked to end within trial a"):
        begun.trial("a", lambda trial: [trial.step(1, 0.5) for _ in range(9)])
    assert not begun.is_done("a")
    with pytest.raises(Stopped, match="asked to end before trial b"):
        study(tmp_path, stop_requested=lambda: True).trial("b", lambda _: 1)


def test_names_that_are_no_file_names_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"trial = 'a/b': allowed: lower-case letters, digits, '\.', '_', '-'"
    ):
        Study(RecordingReport(tmp_path), "one", {"a/b": 1.0})


def test_a_run_goes_on_from_its_saved_state(ladder_inputs, tmp_path):
    from codellm_dag.scaling.small_run import Data, SmallRun
    from codellm_dag.training.model import new_model

    rows = ShardRows([ladder_inputs["shards"].path])
    data = Data(rows, 8, 0)
    first = SmallRun(new_model(GROWTH.model, rows.vocabulary_size, 0, 0), GROWTH.optimizer, data)
    first.train(6, 2, None)
    first.save(tmp_path)
    second = SmallRun(new_model(GROWTH.model, rows.vocabulary_size, 0, 1), GROWTH.optimizer, data)
    second.load(tmp_path)
    for both in (first, second):
        both.train(6, 2, None, rate=0.5)
    assert (second.loss(), second.place) == (first.loss(), 12)
