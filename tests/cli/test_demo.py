"""The demo on the toy graph: Dagster runs the job, its stages run in processes of their own."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from toy_life_cycle import write_sources

from tests.cli.test_json import HOURS, SCORE, check
from tests.support.crash import descendants, is_gone

_SCRIPT = Path(__file__).parent / "toy_demo.py"
_PLAIN = ("COLUMNS", "FORCE_COLOR", "NO_COLOR", "CODELLM_STORE", "CODELLM_PRESET", "DAGSTER_HOME")


@dataclass(frozen=True)
class Place:
    """A state folder, its sources, and the script run on them."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _PLAIN}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**kept, "PATH": path, "TOY_SOURCES": str(self.folder / "sources"), **more}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, str(_SCRIPT), *words, "--store", str(self.store)]

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            env=self.environment(**more),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, str, str]:
    """A place where the demo ran twice, and what it printed each time. Tests copy it."""
    place = Place(tmp_path_factory.mktemp("ran"))
    write_sources(place.folder / "sources")
    first, second = place.run("demo"), place.run("demo")
    for done in (first, second):
        assert (done.returncode, done.stderr) == (0, "")
    return place, first.stdout, second.stdout


@pytest.fixture
def place(ran: tuple[Place, str, str], tmp_path: Path) -> Place:
    shutil.copytree(ran[0].folder, tmp_path, dirs_exist_ok=True)
    return Place(tmp_path)


def test_first_run(ran: tuple[Place, str, str]) -> None:
    place, out, _ = ran
    assert "> raw_corpus[python]\n" in out
    assert re.search(r"✓ sft_checkpoint\[base\] +\d+\.\d s  computed: first time", out)
    assert "Done: 9 computed, 0 reused in" in out
    assert "\x1b" not in out
    assert "dagster - INFO" not in out
    row = next(line for line in out.splitlines() if line.startswith("microbench pass@1"))
    assert row.split()[2:] == ["40", "0.670", "[0.570,", "0.770]", "0.890", "[0.790,", "0.990]"]
    assert (place.folder / "dagster" / "dagster.yaml").is_file()


def test_the_three_commands_work_as_printed(ran: tuple[Place, str, str], place: Place) -> None:
    out = ran[1].replace(str(ran[0].folder), str(place.folder))
    commands = [line.strip() for line in out.splitlines() if line.startswith("  codellm-dag ")]
    assert len(commands) == 3
    assert all("/pass@1" in command for command in commands)
    script = f"{sys.executable} {_SCRIPT}"
    for command in commands:
        done = subprocess.run(
            ["bash", "-c", command.replace("codellm-dag", script)],
            env=place.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if "diff" in command:
            assert "1 cause\n  recipe  sft_checkpoint.learning_rate  0.1 → 0.05" in done.stdout
        if "reproduce" in command:
            assert "equal: pass@1" in done.stdout


def test_second_run_says_why_for_each_asset(ran: tuple[Place, str, str]) -> None:
    out = ran[2]
    assert "Done: 0 computed, 9 reused" in out
    lines = [line for line in out.splitlines() if line.startswith("= ")]
    assert [line.split()[1] for line in lines] == [
        "raw_corpus[python]",
        "clean_corpus[python]",
        "mixture",
        "pretrained_checkpoint",
        "sft_checkpoint[base]",
        "samples",
        "eval_report",
    ]
    assert all("reused: nothing changed" in line for line in lines)


def test_json_of_a_changed_demo(place: Place) -> None:
    done = place.run("demo", "--json", "--set", "sft_checkpoint.steps=3")
    answer = json.loads(done.stdout)
    check(
        answer,
        {
            "schema_version": int,
            "store": str,
            "recipe": str,
            "set": [str],
            "run_id": str,
            "success": bool,
            "problem": (str, type(None)),
            "left_out": list,
            "seconds": float,
            "assets": [
                {
                    "asset": str,
                    "partition": (str, type(None)),
                    "action": str,
                    "reason": str,
                    "seconds": float,
                }
            ],
            "scores": [{**SCORE, "device_hours": HOURS}],
            "next": [str],
        },
    )
    computed = [item for item in answer["assets"] if item["action"] == "computed"]
    assert [(item["asset"], item["partition"], item["reason"]) for item in computed] == [
        ("sft_checkpoint", "base", "recipe.steps: 10 → 3"),
        ("samples", "sft|microbench", "input checkpoint: content changed"),
        ("eval_report", "sft|microbench", "input samples: content changed"),
    ]
    out = place.run("why", "sft_checkpoint").stdout
    assert "recipe.steps: 10 → 3" in out
    assert "Now (with recipe laptop, sft_checkpoint.steps=3) it would be reused" in out


def test_a_failure_names_the_asset_and_the_log(place: Place) -> None:
    done = place.run("demo", "--set", "sft_checkpoint.learning_rate=1e300")
    assert done.returncode == 1
    assert "✗ sft_checkpoint[base]" in done.stdout
    assert "the loss is not finite with learning_rate = 1e+300" in done.stderr
    log = Path(re.findall(r"The whole log: (.*)", done.stderr)[0])
    assert "sft_checkpoint" in log.read_text()
    assert "Traceback" not in done.stdout + done.stderr
    failed = place.run("trials", "--label", "failed").stdout
    assert "diverged" in failed


def test_a_failed_blocking_check_says_what_it_found(place: Place) -> None:
    done = place.run("demo", "--set", "clean_corpus.min_bytes=100000", "--json")
    assert done.returncode == 1
    told = "clean_corpus did not pass its check something_is_left: 0 documents are left"
    assert json.loads(done.stdout)["problem"] == told


def test_an_interrupt_ends_the_stage_and_says_how_to_go_on(place: Place) -> None:
    words = ("demo", "--set", "pretrained_checkpoint.steps=50")
    process = subprocess.Popen(
        place.command(*words),
        env=place.environment(TOY_SECONDS="60"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("> pretrained_checkpoint"):
            break
    below = _wait_for_stage(process.pid)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped. What is finished is kept" in err
    assert "failed: stopped" in out
    assert all(is_gone(pid) for pid in below)
    rows = json.loads(place.run("trials", "--label", "killed", "--json").stdout)["trials"]
    assert [row["asset"] for row in rows] == ["pretrained_checkpoint"]


def _wait_for_stage(pid: int) -> list[int]:
    """The fork server below the demo's process, a watcher and its stage, once all are there."""
    for _ in range(200):
        below = [child for child in descendants(pid) if b"codellm_dag.stages" in _command(child)]
        if len(below) == 3:
            return below
        time.sleep(0.1)
    raise AssertionError("no stage process appeared")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_on_a_terminal_there_is_a_bar_and_no_line_is_too_long(place: Place) -> None:
    columns = 80
    words = ("demo", "--set", "pretrained_checkpoint.steps=20")
    shown = _on_terminal(place, columns, *words)
    assert "\x1b[" in shown
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert re.search(r"/20 steps", text)
    assert " left" in text
    assert "dagster - INFO" not in text
    assert "recipe.steps: 10 → 20" in " ".join(text.split())
    bars = [line for line in re.split(r"[\r\n]+", text) if "/20 steps" in line]
    assert max(len(line.rstrip()) for line in bars) <= columns


def test_no_color(place: Place) -> None:
    shown = _on_terminal(place, 80, "scores", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", shown)


def _on_terminal(place: Place, columns: int, *words: str, **more: str) -> Any:
    """What a command writes to a terminal of so many columns."""
    import fcntl
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = place.environment(TERM="xterm-256color", TOY_SECONDS="4", **more)
    process = subprocess.Popen(
        place.command(*words), env=environment, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    data = b""
    while True:
        ready, _, _ = select.select([master], [], [], 60)
        try:
            part = os.read(master, 65536) if ready else b""
        except OSError:  # the other end is closed
            part = b""
        if not part:
            break
        data += part
    os.close(master)
    assert process.wait(60) == 0, data.decode()
    return data.decode()
