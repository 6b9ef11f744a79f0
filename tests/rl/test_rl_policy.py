"""The stage end to end, in the real sandbox: it learns, repeats itself, and survives a kill."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codellm_dag.problems.schema import Call, Problem, Test, write_problems
from codellm_dag.recipes.rl import RlRecipe
from codellm_dag.rl.errors import NoReward
from codellm_dag.rl.rl_policy import final_metrics, run
from codellm_dag.stages.protocol import Inputs, Stopped
from tests.modelkit.tiny import RecordingReport, artifact, save_checkpoint
from tests.modelkit.training import teach

WORDS = ("    return x + 1\n", "    return x - 1\n", "    return x\n")
RECIPE = RlRecipe.parse(
    {
        "steps": 6,
        "rollouts": {"problems_per_step": 4, "group_size": 6, "max_new_tokens": 6},
        "optimiser": {"learning_rate": 0.01, "warmup_steps": 0},
        "checkpoint_every": 2,
    }
)


def adds_one(name: str) -> Problem:
    """The reward is for ``return x + 1``, one of the three answers that the start gives equally often."""
    return Problem(
        problem_id=name,
        benchmark="microbench",
        prompt=f"def {name}(x):\n",
        entry_point=name,
        reference=WORDS[0],
        tests=tuple(Test(call=Call(args=(str(n),)), expected=str(n + 1)) for n in (0, 5)),
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    folder = tmp_path_factory.mktemp("rl")
    checkpoint = save_checkpoint(folder / "checkpoint", chat=False, words=WORDS)
    teach(checkpoint, [(f"def {name}(x):\n", word) for name in "fghk" for word in WORDS])
    (folder / "problems").mkdir()
    write_problems(folder / "problems", [adds_one(name) for name in "fghkm"])
    return Inputs(
        {
            "checkpoint": artifact(checkpoint),
            "problems": artifact(folder / "problems"),
        }
    )


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that a content digest covers."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.is_file()
    }


@pytest.fixture(scope="module")
def undisturbed(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RecordingReport]:
    folder = tmp_path_factory.mktemp("undisturbed")
    report = RecordingReport(folder / "resume")
    (folder / "out").mkdir()
    run(RECIPE, inputs, folder / "out", report)
    return folder / "out", report


def test_it_learns_and_reports(undisturbed: tuple[Path, RecordingReport]):
    _, report = undisturbed
    assert [step for step, _ in report.points] == [1, 2, 3, 4, 5, 6]
    first, last = report.points[0][1], report.points[-1][1]
    assert 0.1 < first["pass_rate"] < 0.7
    assert last["pass_rate"] > first["pass_rate"] + 0.2
    assert last["kl"] > 0
    names = {"reward", "pass_rate", "entropy", "response_tokens", "mixed_group_share", "grad_norm", "loss"}
    assert names <= set(first)
    assert report.steps[-1] == (6, 6, "steps")
    assert report.metrics["reward_last"] == last["reward"]
    assert report.metrics["infrastructure_errors"] == 0


def test_the_result_is_a_checkpoint_that_transformers_loads(
    undisturbed: tuple[Path, RecordingReport], inputs: Inputs
):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out, report = undisturbed
    start = inputs["checkpoint"].path
    AutoModelForCausalLM.from_pretrained(out)
    assert AutoTokenizer.from_pretrained(out).encode(WORDS[0]) == AutoTokenizer.from_pretrained(start).encode(
        WORDS[0]
    )
    assert {path.name for path in start.iterdir()} <= {path.name for path in out.iterdir()}
    facts = json.loads((out / "training.json").read_text())
    assert facts["recipe"] == RECIPE.model_dump(mode="json")
    assert (facts["steps"], facts["chat"]) == (6, False)
    assert facts["tokens"] == report.metrics["trained_tokens"] > 0


def test_a_second_run_gives_the_same_bytes(
    undisturbed: tuple[Path, RecordingReport], inputs: Inputs, tmp_path: Path
):
    (tmp_path / "out").mkdir()
    again = RecordingReport(tmp_path / "resume")
    run(RECIPE, inputs, tmp_path / "out", again)
    assert digests(tmp_path / "out") == digests(undisturbed[0])
    assert again.points == undisturbed[1].points


KILLED = """
import os, signal, sys
from pathlib import Path
from codellm_dag.recipes.rl import RlRecipe
from codellm_dag.rl.rl_policy import run
from codellm_dag.stages.protocol import Inputs
from tests.modelkit.tiny import RecordingReport, artifact

class Killed(RecordingReport):
    def progress(self, done, total, unit="", note=""):
        if done == {step}:
            os.kill(os.getpid(), signal.SIGKILL)

recipe, checkpoint, problems, folder = sys.argv[1:]
inputs = Inputs(dict(checkpoint=artifact(Path(checkpoint)), problems=artifact(Path(problems))))
run(RlRecipe.model_validate_json(recipe), inputs, Path(folder, "out"), Killed(Path(folder, "resume")))
"""


@pytest.mark.parametrize("step", [1, 5])
def test_a_killed_run_resumes_to_the_same_bytes(
    undisturbed: tuple[Path, RecordingReport], inputs: Inputs, tmp_path: Path, step: int
):
    (tmp_path / "out").mkdir()
    paths = [str(inputs[slot].path) for slot in ("checkpoint", "problems")]
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(step=step), RECIPE.model_dump_json(), *paths, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    left = sorted(path.name for path in (tmp_path / "resume").glob("*"))
    assert left == ([] if step == 1 else ["step-000004.pt"])
    # A kill while a checkpoint was being written leaves such a file; it must not matter.
    (tmp_path / "resume").mkdir(exist_ok=True)
    (tmp_path / "resume" / ".step-000006.pt.1.partial").write_bytes(b"half")
    report = RecordingReport(tmp_path / "resume")
    run(RECIPE, inputs, tmp_path / "out", report)
    assert report.messages[0] == (
        "no earlier attempt to resume from" if step == 1 else "resuming after step 4"
    )
    assert report.points == undisturbed[1].points
    assert digests(tmp_path / "out") == digests(undisturbed[0])


def test_a_run_that_is_asked_to_end_saves_and_resumes_to_the_same_bytes(
    undisturbed: tuple[Path, RecordingReport], inputs: Inputs, tmp_path: Path
):
    (tmp_path / "out").mkdir()
    asked = iter([False, False, True])
    report = RecordingReport(tmp_path / "resume", stop_requested=lambda: next(asked))
    with pytest.raises(Stopped, match="asked to end; saved after step 3 of 6"):
        run(RECIPE, inputs, tmp_path / "out", report)
    assert [path.name for path in (tmp_path / "resume").iterdir()] == ["step-000003.pt"]
    assert list((tmp_path / "out").iterdir()) == []
    report = RecordingReport(tmp_path / "resume")
    run(RECIPE, inputs, tmp_path / "out", report)
    assert report.messages[0] == "resuming after step 3"
    assert report.points == undisturbed[1].points
    assert digests(tmp_path / "out") == digests(undisturbed[0])


@pytest.mark.parametrize("estimator", ["rloo", "reinforce_plus_plus_baseline"])
def test_every_estimator_and_option_runs(inputs: Inputs, tmp_path: Path, estimator: str):
    recipe = RECIPE.with_changes(
        {
            "estimator": estimator,
            "steps": 2,
            "loss.kl_coefficient": 0.05,
            "loss.minibatches": 2,
            "reward.kind": "fraction",
            "skip_uniform_groups": False,
            "optimiser.decay": "linear",
        }
    )
    report = RecordingReport(tmp_path / "resume")
    run(recipe, inputs, tmp_path, report)
    assert report.points[1][1]["kl"] > 0
    assert report.points[1][1]["learning_rate"] == pytest.approx(0.005)


def test_problems_judged_inside_are_refused_before_any_sampling(inputs: Inputs, tmp_path: Path):
    (tmp_path / "problems").mkdir()
    forged = adds_one("f").model_copy(update={"inside_tests": "assert f(1) == 2"})
    write_problems(tmp_path / "problems", [forged])
    changed = Inputs({**inputs, "problems": artifact(tmp_path / "problems")})
    with pytest.raises(NoReward, match="forge its verdict: f"):
        run(RECIPE, changed, tmp_path, RecordingReport(tmp_path / "resume"))


def test_final_metrics_by_hand():
    row = {"trained_tokens": 10.0, "infrastructure_errors": 1.0, "entropy": 1.0, "mixed_group_share": 0.5}
    history = [{**row, "reward": n / 20, "pass_rate": n / 20} for n in range(20)]
    history[7]["kl"] = 0.25
    metrics = final_metrics(history)
    assert (metrics["reward_first"], metrics["reward_last"]) == (0.025, pytest.approx(0.925))
    assert (metrics["trained_tokens"], metrics["infrastructure_errors"], metrics["kl_last"]) == (
        200,
        20,
        0.25,
    )
    nothing = final_metrics([row])
    assert "reward_last" not in nothing
    assert nothing["entropy_first"] == 1.0
