"""How often checkpoints are taken, and that those which a thread writes are whole and exact."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from codellm_dag.recipes import Runtime
from codellm_dag.stages.protocol import Inputs, Stopped
from codellm_dag.training import pretrained_checkpoint, saving, trainer
from codellm_dag.training.checkpoints import ResumeFolder
from codellm_dag.training.processes import Processes
from codellm_dag.training.saving import Saver, machines_of, save_interval
from tests.modelkit.tiny import RecordingReport
from tests.training.conftest import TINY, files, save_always
from tests.training.test_pretrained_checkpoint import kill_at, run


def test_the_interval_is_youngs_within_its_bounds() -> None:
    assert save_interval(60.0, 10.0, 1) == pytest.approx(math.sqrt(2 * 60 * 36_000))  # 2,078 s
    assert save_interval(60.0, 10.0, 2) == pytest.approx(math.sqrt(2 * 60 * 18_000))  # 1,470 s
    assert save_interval(60.0, 10.0, 16) == 1200.0  # a twentieth of the time at most
    assert save_interval(1e-6, 1.0, 1) == 20.0


def test_machines_are_counted_as_torchrun_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machines_of(Processes()) == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert machines_of(Processes(3, 64)) == 8


def test_a_thread_writes_one_checkpoint_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(saving, "time", SimpleNamespace(monotonic=lambda: now[0]))
    saver, written, gate = Saver(may_use_thread=True), [], threading.Event()

    def takes(seconds: float) -> None:
        now[0] += seconds

    def from_copy(name: str) -> Callable[[], Callable[[], None]]:
        def write() -> None:
            gate.wait(60)
            written.append(name)

        return lambda: takes(0.1) or write

    saver.save(lambda: takes(0.6), from_copy("never"))
    assert (saver.by_thread, saver.busy, saver.cost) == (True, False, pytest.approx(0.6))
    saver.save(lambda: written.append("never"), from_copy("first"))
    assert (written, saver.busy, saver.cost) == ([], True, pytest.approx(0.1))
    threading.Timer(0.1, gate.set).start()
    saver.save(lambda: written.append("never"), from_copy("second"))
    assert written[0] == "first", "the second began before the first was written"
    saver.wait()
    assert (written, saver.busy) == (["first", "second"], False)


def test_what_a_thread_could_not_write_is_an_error_of_the_run() -> None:
    saver = Saver(may_use_thread=True)
    saver.by_thread = True

    def write() -> None:
        raise OSError(28, "No space left on device")

    saver.save(lambda: None, lambda: write)
    with pytest.raises(OSError, match="No space left"):
        saver.wait()
    saver.wait()


def test_only_who_may_uses_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "THREAD_SECONDS", -1.0)
    saver = Saver(may_use_thread=False)
    saver.save(lambda: None, lambda: pytest.fail("copied"))
    saver.save(lambda: None, lambda: pytest.fail("copied"))


def test_the_newest_are_kept(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_always(monkeypatch)
    for name in ("out", "resume"):
        (tmp_path / name).mkdir()
    runtime = Runtime(threads=1, workers=1, keep_checkpoints=3)
    recipe = TINY.with_changes({"divergence": {"action": "rollback", "rollback_steps": 7}})
    report = RecordingReport(tmp_path / "resume", runtime)
    pretrained_checkpoint.run(recipe, inputs, tmp_path / "out", report)
    kept = sorted(path.name for path in (tmp_path / "resume").iterdir())
    assert kept == ["checkpoint-10", "checkpoint-11", "checkpoint-7", "checkpoint-9"]


BY_THREAD = """
from codellm_dag.training import saving, trainer
saving.THREAD_SECONDS = -1.0
saving.Saver.busy = property(lambda saver: saver.wait() or False)  # every step is saved
snapshot = trainer.snapshot
def told(of):
    step, write = of.state.global_step, snapshot(of)
    def write_and_tell(folder):
        write(folder)
        say("written", step)
    return write_and_tell
trainer.snapshot = told
"""


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_kill_while_a_thread_writes_leaves_the_checkpoint_before(
    inputs: Inputs, tmp_path: Path, optimizer: str
) -> None:
    recipe = TINY.with_changes({"optimizer.name": optimizer})
    expected = run(recipe, inputs, tmp_path / "whole")
    folder = tmp_path / "killed"
    kill_at(recipe, inputs, folder, "written 3", first=BY_THREAD)
    assert {path.name for path in (folder / "resume").iterdir()} == {"new.partial", "checkpoint-2"}
    report = run(recipe, inputs, folder)
    assert report.messages == ["resuming from checkpoint-2"]
    assert report.points == expected.points
    assert files(folder / "out") == files(tmp_path / "whole/out")


def test_the_end_waits_for_the_thread(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_always(monkeypatch)
    monkeypatch.setattr(saving, "THREAD_SECONDS", -1.0)
    honest = trainer.snapshot

    def slow(of):
        write = honest(of)
        return lambda folder: (time.sleep(0.5), write(folder))

    monkeypatch.setattr(trainer, "snapshot", slow)
    for name in ("out", "resume"):
        (tmp_path / name).mkdir()
    report = RecordingReport(tmp_path / "resume")
    report.stop_requested = lambda: len(report.points) >= 4
    with pytest.raises(Stopped, match="saved after step 5 of 12"):
        pretrained_checkpoint.run(TINY, inputs, tmp_path / "out", report)
    assert [path.name for path in (tmp_path / "resume").iterdir()] == ["checkpoint-5"]


def test_a_copy_is_what_trainer_itself_writes(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_always(monkeypatch)
    run(TINY, inputs, tmp_path / "direct")
    monkeypatch.setattr(saving, "THREAD_SECONDS", -1.0)
    monkeypatch.setattr(Saver, "busy", property(lambda saver: saver.wait() or False))  # every step is saved
    run(TINY, inputs, tmp_path / "copied")
    (direct,) = (tmp_path / "direct/resume").glob("checkpoint-*")
    folder = ResumeFolder(tmp_path / "copied/resume", (direct / "identity").read_text())
    copied = folder.latest()
    assert copied is not None
    assert copied.name == direct.name
    assert {path.name for path in copied.iterdir()} == {path.name for path in direct.iterdir()}
