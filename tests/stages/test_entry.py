"""The entry point as a process: files and exit codes, a store instead of files, signals, orphans."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from codellm_dag.launch import identify
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.messages import FileReader, StoreReader
from codellm_dag.stages.request import RequestInput, StageRequest
from codellm_dag.store import Output, Store
from tests.support.stores import publish
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import JOIN, TROUBLE, WORDS

ROOT = Path(__file__).resolve().parents[2]


def request_for(folder: Path, stage, inputs=None, **recipe: Any) -> StageRequest:
    """A request whose files lie in `folder`."""
    inputs = inputs or {}
    identity = identify(stage, TinyRecipe(**recipe), inputs)
    return StageRequest(
        stage=stage.name,
        module=stage.module,
        recipe_class=stage.recipe,
        recipe=identity.payload["recipe"],
        code=identity.code.modules,
        packages={},
        asset=stage.name,
        fingerprint=identity.fingerprint,
        attempt="a1",
        inputs={slot: RequestInput(artifact=artifact) for slot, artifact in inputs.items()},
        out=str(folder / "out"),
        resume_dir=str(folder / "resume"),
        messages=str(folder / "messages.jsonl"),
        runtime=Runtime(threads=1, workers=1),
        import_path=[str(ROOT)],
    )


def start(request: StageRequest, folder: Path, *more: str, **variables: str) -> subprocess.Popen[bytes]:
    path = folder / "request.json"
    path.write_text(request.model_dump_json())
    return subprocess.Popen(
        [sys.executable, "-m", "codellm_dag.stages.entry", str(path), *more],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    printed = process.communicate(timeout=60)[0].decode()
    return process.returncode, printed


def methods(folder: Path) -> list[str]:
    return [message["method"] for message in FileReader(folder / "messages.jsonl").read()]


def gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether a process ends (a zombie counts as ended)."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def read_pid(path: Path) -> int:
    deadline = time.monotonic() + 30
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(path.read_text())


def test_success_leaves_outputs_messages_and_usage(tmp_path: Path) -> None:
    code, printed = finish(start(request_for(tmp_path, WORDS, count=2), tmp_path))
    assert code == 0
    assert printed == "printed by the stage\n"
    assert (tmp_path / "out/words.txt").read_text() == "word 0\nword 1\n"
    assert methods(tmp_path)[0] == "opened"
    assert methods(tmp_path)[-1] == "closed"
    usage = json.loads((tmp_path / "exit.json").read_text())
    assert (usage["exit_code"], usage["signal"], usage["out_of_memory"]) == (0, None, False)
    assert usage["cpu_seconds"] > 0
    assert usage["peak_memory_bytes"] > 1_000_000


def test_threads_are_set_before_the_stage_is_imported(tmp_path: Path) -> None:
    (tmp_path / "spy_stage.py").write_text(
        "import os\nSEEN = os.environ['OMP_NUM_THREADS'], os.environ.get('TMPDIR')\n"
        "def run(recipe, inputs, out, report):\n    (out / 'seen').write_text(repr(SEEN))\n"
    )
    stage = WORDS.__class__("spy", "corpus", "spy_stage", WORDS.recipe, {})
    sys.path.insert(0, str(tmp_path))
    try:
        request = request_for(tmp_path, stage).model_copy(update={"import_path": [str(ROOT), str(tmp_path)]})
    finally:
        sys.path.remove(str(tmp_path))
    request = request.model_copy(update={"runtime": Runtime(threads=7, workers=1)})
    code, printed = finish(start(request, tmp_path, PYTHONPATH=f"{ROOT}:{tmp_path}"))
    assert code == 0, printed
    threads, scratch = eval((tmp_path / "out/seen").read_text())
    assert threads == "7"
    assert Path(scratch).name.startswith("codellm-")
    assert not Path(scratch).exists(), "the scratch folder goes with the stage"


def test_failure_says_why_and_exits_1(tmp_path: Path) -> None:
    code, printed = finish(start(request_for(tmp_path, TROUBLE, trouble="value"), tmp_path))
    assert code == 1
    assert "about to get into trouble" in printed
    messages = FileReader(tmp_path / "messages.jsonl").read()
    failed = [m["params"]["payload"] for m in messages if m["method"] == "report_custom_message"][-1]
    assert (failed["event"], failed["label"], failed["error"]) == ("failed", "error", "ValueError: a bug")
    assert messages[-1]["params"]["exception"]["name"] == "ValueError"


@pytest.mark.parametrize(("trouble", "number"), [("killed", 9), ("segfault", 11)])
def test_signals_are_in_the_exit_code(tmp_path: Path, trouble: str, number: int) -> None:
    code, _ = finish(start(request_for(tmp_path, TROUBLE, trouble=trouble), tmp_path))
    assert code == 128 + number
    assert json.loads((tmp_path / "exit.json").read_text())["signal"] == number
    assert methods(tmp_path)[-1] != "closed"


def test_other_code_than_fingerprinted_is_refused(tmp_path: Path) -> None:
    request = request_for(tmp_path, WORDS)
    code = {**request.code, "tests.support.words_stage": "0" * 64}
    status, _ = finish(start(request.model_copy(update={"code": code}), tmp_path))
    assert status == 1
    text = (tmp_path / "messages.jsonl").read_text()
    assert "the code here is not the code that was asked for; tests.support.words_stage differs" in text
    assert not (tmp_path / "out").exists()


def test_daemons_die_when_the_stage_ends(tmp_path: Path) -> None:
    code, _ = finish(
        start(request_for(tmp_path, TROUBLE, trouble="daemon", text=str(tmp_path / "pid")), tmp_path)
    )
    assert code == 0
    assert gone(int((tmp_path / "pid").read_text()))


def test_sigterm_is_passed_on(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    process = start(request_for(tmp_path, TROUBLE, trouble="daemon, then wait", text=str(mark)), tmp_path)
    daemon = read_pid(mark)
    process.send_signal(signal.SIGTERM)
    code, _ = finish(process)
    assert code == 128 + signal.SIGTERM
    assert gone(daemon)


def test_killing_the_watcher_kills_the_stage(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    process = start(request_for(tmp_path, TROUBLE, trouble="wait", text=str(mark)), tmp_path)
    stage = read_pid(mark)
    assert stage != process.pid
    process.kill()
    process.wait()
    assert gone(stage)


def test_a_parent_that_is_already_gone_ends_it_at_once(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    request = request_for(tmp_path, TROUBLE, trouble="wait", text=str(tmp_path / "pid"))
    code, _ = finish(start(request, tmp_path, "--parent", str(dead.pid)))
    assert code == 71
    assert not (tmp_path / "pid").exists()
    code, _ = finish(start(request, tmp_path, "--parent", "1"))  # alive, but not our parent
    assert code == 71


def test_as_in_a_pod_everything_goes_through_the_store(s3_url: str, tmp_path: Path) -> None:
    store = Store(s3_url)
    words = publish(store, "x", {"words.txt": "from the store"})
    request = request_for(tmp_path, JOIN, {"words": words}).model_copy(
        update={"store": s3_url, "out": None, "resume_dir": None, "messages": "messages/m1", "upload": True}
    )
    record = {"request": request.model_dump(mode="json"), "group": "join-a1"}
    store.backend.put("launches/a1.json", json.dumps(record).encode())
    done = subprocess.run(
        [sys.executable, "-m", "codellm_dag.stages.entry", "launches/a1.json", "--store", s3_url],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    messages = StoreReader(store, "messages/m1").read()
    assert messages[-1] == {"__dagster_pipes_version": "0.1", "method": "closed", "params": {}}
    events = [m["params"]["payload"] for m in messages if m["method"] == "report_custom_message"]
    outputs = [
        Output.model_validate(item)
        for event in events
        if event["event"] == "outputs"
        for item in event["outputs"]
    ]
    assert [output.path for output in outputs] == ["joined.txt"]
    place = f"artifacts/join/{request.fingerprint}/attempts/a1/joined.txt"
    assert store.backend.read(place) == b"from the store"
    assert json.loads(store.backend.read("messages/m1.exit.json"))["exit_code"] == 0
