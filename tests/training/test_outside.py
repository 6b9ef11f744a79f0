"""Running a framework as a subprocess, with a small program of our own in its place."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.stages.protocol import Stopped
from codellm_dag.training import outside
from codellm_dag.training.backends.protocol import FrameworkFailedError, Rendered
from codellm_dag.training.environments.framework import FrameworkEnvironment
from codellm_dag.training.plan import DivergedError
from tests.modelkit.tiny import RecordingReport
from tests.training.backends.groups import CONTEXT, be_one_of
from tests.training.backends.jobs import job, sft

START = """\
import json, os, shutil, sys, time
log = open("log.jsonl", "w")
def step(number, loss, **more):
    print(json.dumps({"step": number, "loss": loss, **more}), file=log, flush=True)
"""


class Here(FrameworkEnvironment):
    """An environment that is this one."""

    @property
    def python(self) -> Path:
        return Path(sys.executable)


def point(entry: Mapping[str, Any]) -> tuple[int, dict[str, float]]:
    return entry["step"], {name: entry[name] for name in ("loss", "grad_norm") if name in entry}


def run(
    program: str, folder: Path, report: RecordingReport, steps: int = 3, precision: str = "fp32"
) -> object:
    this = job(sft("llamafactory", {"compute.precision": precision}), folder, steps=steps)
    this.model_folder()
    rendered = Rendered({"run.py": START + textwrap.dedent(program)}, ("run.py",), {"OWN": "1"})
    rendered.write(this.work)
    here = Here("here", "# framework: here\nhere==1.0\n")
    return outside.run_framework(here, this, rendered, report, "log.jsonl", point, "model")


def test_points_come_as_they_are_written_and_the_checkpoint_is_read(tmp_path: Path) -> None:
    report = RecordingReport(tmp_path)
    finished = run("for n in (1, 2, 3): step(n, 1.0 / n)", tmp_path, report)
    assert report.points == [(n, {"loss": 1.0 / n}) for n in (1, 2, 3)]
    assert finished.trained.losses == [1.0, 0.5, 1.0 / 3]  # type: ignore[attr-defined]
    assert finished.model.config.vocab_size == 259  # type: ignore[attr-defined]
    assert report.steps[-1][:2] == (3 * 4 * 128, 3 * 4 * 128)  # tokens


MEETS = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
ranks = torch.tensor([float(os.environ["RANK"]) + 1])
dist.all_reduce(ranks)
for n in (1, 2, 3): step(n, ranks.item())
"""


def _in_a_group(rank: int, port: int, folder: Path) -> None:
    be_one_of(2, rank, port)
    finished = run(MEETS, folder / str(rank), RecordingReport(folder))
    (folder / f"losses-{rank}").write_text(json.dumps(finished.trained.losses))  # type: ignore[attr-defined]


def test_children_of_a_group_meet(tmp_path: Path) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    ranks = [CONTEXT.Process(target=_in_a_group, args=(rank, store.port, tmp_path)) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(120)
        assert rank.exitcode == 0
    assert [json.loads((tmp_path / f"losses-{rank}").read_text()) for rank in range(2)] == [[3.0] * 3] * 2


def test_few_of_our_variables_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    program = "json.dump(dict(os.environ), open('seen', 'w'))\nfor n in (1, 2, 3): step(n, 1.0)"
    run(program, tmp_path, RecordingReport(tmp_path))
    seen = json.loads((tmp_path / "work" / "seen").read_text())
    assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH"} & set(seen)
    assert (seen["OWN"], seen["HF_HUB_OFFLINE"], seen["OMP_NUM_THREADS"]) == ("1", "1", "1")
    assert seen["HOME"] == str(tmp_path / "work")


def test_a_failure_has_the_end_of_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(
        FrameworkFailedError, match=r"exit code 3 after step 1 of 3; it printed last:\nout of luck"
    ):
        run("step(1, 1.0); print('out of luck'); sys.exit(3)", tmp_path / "code", RecordingReport(tmp_path))
    with pytest.raises(FrameworkFailedError, match="exit code 0 after step 2 of 3"):
        run("step(1, 1.0); step(2, 1.0)", tmp_path / "short", RecordingReport(tmp_path))


def test_a_loss_that_is_not_finite_ends_it(tmp_path: Path) -> None:
    program = "open('pid', 'w').write(str(os.getpid())); step(1, 1.0); step(2, float('nan')); time.sleep(60)"
    with pytest.raises(DivergedError, match=r"loss is nan at step 2 of 3; lower optimizer\.learning_rate"):
        run(program, tmp_path, RecordingReport(tmp_path))
    assert not _lives(tmp_path / "work" / "pid")


def test_gradients_that_overflow_end_it_but_where_the_loss_is_scaled(tmp_path: Path) -> None:
    program = "for n in (1, 2, 3): step(n, 1.0, grad_norm=float('inf') if n == 2 else 1.0)"
    with pytest.raises(DivergedError, match="grad_norm is inf at step 2 of 3"):
        run(program, tmp_path / "bf16", RecordingReport(tmp_path), precision="bf16")
    report = RecordingReport(tmp_path)
    run(program, tmp_path / "fp16", report, precision="fp16")
    assert [step for step, _ in report.points] == [1, 2, 3]


def test_being_asked_to_end_ends_it_and_what_it_started(tmp_path: Path) -> None:
    program = """
    import subprocess
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open("pid", "w").write(str(child.pid))
    step(1, 1.0)
    time.sleep(60)
    """
    report = RecordingReport(tmp_path)
    report.stop_requested = lambda: bool(report.points)
    with pytest.raises(Stopped, match="starts over at the next attempt"):
        run(program, tmp_path, report)
    assert not _lives(tmp_path / "work" / "pid")


def _lives(file: Path) -> bool:
    """Whether a process that was killed goes on."""
    deadline = time.monotonic() + 30  # half of what it would sleep
    while _state(file.read_text()) not in ("", "Z"):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.05)
    return False


def _state(pid: str) -> str:
    try:
        return (Path("/proc") / pid / "stat").read_text().split()[2]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("raise ValueError('no such stage')", "ValueError: no such stage"),
        (
            "class Half:\n def __del__(self): raise KeyError('later')\n"
            "def start():\n half = Half()\n raise ValueError('first')\nstart()",
            "ValueError: first",
        ),
        (
            "import sys\nprint('╭ Problem ──╮\\n│ Unknown: --x │\\n╰──╯', file=sys.stderr); sys.exit(2)",
            "Problem",
        ),
    ],
)
def test_a_parser_is_quoted(program: str, told: str) -> None:
    here = Here("here", "# framework: here\nhere==1.0\n")
    with pytest.raises(InvalidRecipeError, match=f"here's own parser refuses the configuration: {told}"):
        outside.parse_with(here, Rendered({}), program)
