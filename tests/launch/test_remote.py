"""Remote attempts with real processes: found again, never started twice, and never an empty success."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codellm_dag.launch import (
    InlineLauncher,
    Launches,
    LaunchRecord,
    StageEvent,
    StageFailedError,
    identify,
    materialize,
)
from codellm_dag.stages.messages import StoreReader
from codellm_dag.stages.request import StageRequest
from codellm_dag.store import Store
from codellm_dag.store.backend import DiskBackend
from tests.support.crash import is_gone
from tests.support.detached import ROOT, DetachedLauncher
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import COUNT, JOIN, TROUBLE, WORDS

COUNTED = "".join(f"{number}\n" for number in range(30))
RECIPE = TinyRecipe(count=30, seconds=0.1)
REQUEST = {
    "stage": "count",
    "module": COUNT.module,
    "recipe_class": COUNT.recipe,
    "recipe": {},
    "code": {},
    "packages": {},
    "asset": "count",
    "attempt": "",
    "inputs": {},
    "messages": "",
    "runtime": {},
}


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    return tmp_path / "cluster"


def orchestrator(store: Store, cluster: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.detached", store.url, str(cluster), "30", "0.1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def launches(store: Store, stage=COUNT, recipe=RECIPE) -> Launches:
    return Launches(store, stage.name, identify(stage, recipe, {}).fingerprint)


def wait_for_progress(store: Store, least: float = 3) -> LaunchRecord:
    """The open attempt of the count, once its messages tell that it is at work."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        record = launches(store).open()
        if record is not None:
            payloads = [
                message["params"]["payload"]
                for message in StoreReader(store, record.request.messages).read()
                if message["method"] == "report_custom_message"
            ]
            if any(payload["event"] == "progress" and payload["done"] >= least for payload in payloads):
                return record
        time.sleep(0.05)
    raise AssertionError("no progress")


def starts(cluster: Path) -> list[str]:
    return [line for path in cluster.glob("*/started") for line in path.read_text().split()]


def remains(store: Store) -> list[str]:
    """What a store holds besides artifacts and records that stay."""
    return [path for name in ("launches", "messages", "resume") for path in store.backend.sizes(name)]


def test_a_killed_orchestrator_leaves_its_attempt_running_and_the_next_attaches(
    store: Store, cluster: Path
) -> None:
    first = orchestrator(store, cluster)
    wait_for_progress(store)
    first.send_signal(signal.SIGKILL)
    first.wait()
    (pid,) = starts(cluster)
    assert not is_gone(int(pid), 0)
    events: list[StageEvent] = []
    outcome = materialize(
        store, COUNT, RECIPE, {}, launcher=DetachedLauncher(cluster), on_event=events.append
    )
    assert starts(cluster) == [pid], "one process ever ran"
    assert outcome.manifest.attempt == "a1"
    assert outcome.manifest.metrics["began_at"] == 0
    assert (store.local_path(outcome.artifact) / "count.txt").read_text() == COUNTED
    assert [step for step, _ in outcome.manifest.series["square"]] == list(range(30))
    assert [(row.attempt, row.label) for row in store.ledger.rows()] == [("a1", "ok")]
    assert next(event.message for event in events if event.type == "started").startswith("attached to count-")
    assert remains(store) == []
    assert store.verify(outcome.artifact) == []


def test_two_orchestrators_at_once_follow_one_process(store: Store, cluster: Path) -> None:
    both = [orchestrator(store, cluster), orchestrator(store, cluster)]
    printed = {process.communicate(timeout=120)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(printed) == 1
    assert printed.pop().startswith("a1 ")
    assert len(starts(cluster)) == 1
    assert [(row.attempt, row.label) for row in store.ledger.rows()] == [("a1", "ok")]
    assert remains(store) == []


def test_inputs_come_from_the_store(store: Store, cluster: Path) -> None:
    words = materialize(store, WORDS, TinyRecipe(text="ü"), {}, launcher=InlineLauncher()).artifact
    joined = materialize(store, JOIN, TinyRecipe(), {"words": words}, launcher=DetachedLauncher(cluster))
    assert (store.local_path(joined.artifact) / "joined.txt").read_text() == "ü 0\nü 1\nü 2\n"
    assert joined.manifest.cost[0].cpu_seconds is not None


def test_exit_code_0_without_a_closing_message_is_a_failure(store: Store, cluster: Path) -> None:
    launcher = DetachedLauncher(cluster, infra_retries=1)
    with pytest.raises(StageFailedError) as failed:
        materialize(
            store, TROUBLE, TinyRecipe(trouble="hard exit"), {}, launcher=launcher, retry_seconds=0.01
        )
    assert failed.value.label == "infra"
    assert "without a closing message (exit code 0)" in str(failed.value)
    assert "about to get into trouble" in failed.value.log_tail
    rows = [(row.attempt, row.label) for row in store.ledger.rows()]
    assert rows == [("a1", "infra"), ("a2", "infra")]


def test_a_closing_message_without_a_result_is_a_failure(store: Store, cluster: Path) -> None:
    code = (
        "import json,sys\n"
        "from pathlib import Path\n"
        "from codellm_dag.store import Store\n"
        "store = Store(sys.argv[3])\n"
        "request = json.loads(store.backend.read(sys.argv[1]))['request']\n"
        "lines = [{'method': name, 'params': {}} for name in ('opened', 'closed')]\n"
        "data = ''.join(json.dumps(line) + '\\n' for line in lines).encode()\n"
        "store.backend.create(request['messages'] + '/00000001.jsonl', data)\n"
    )
    script = cluster.with_name("forger.py")
    script.write_text(code)
    launcher = DetachedLauncher(cluster, command=f"{sys.executable} {script}")
    with pytest.raises(StageFailedError, match="named no result") as failed:
        materialize(store, WORDS, TinyRecipe(), {}, launcher=launcher)
    assert failed.value.label == "error"
    assert len(starts(cluster)) == 1, "not repeated"


@pytest.mark.parametrize(
    ("trouble", "label"), [("value", "error"), ("memory", "oom"), ("diverged", "diverged")]
)
def test_what_is_not_infrastructure_is_not_repeated(
    tmp_path: Path, cluster: Path, trouble: str, label: str
) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(StageFailedError) as failed:
        materialize(store, TROUBLE, TinyRecipe(trouble=trouble), {}, launcher=DetachedLauncher(cluster))
    assert failed.value.label == label
    assert len(starts(cluster)) == 1


def test_infrastructure_failures_are_repeated_under_the_next_number(tmp_path: Path, cluster: Path) -> None:
    store = Store(tmp_path / "store")
    recipe = TinyRecipe(trouble="once", text=str(tmp_path / "mark"))
    launcher = DetachedLauncher(cluster)
    outcome = materialize(store, TROUBLE, recipe, {}, launcher=launcher, retry_seconds=0.01)
    assert outcome.manifest.attempt == "a2"
    assert [(cost.attempt, cost.label) for cost in outcome.manifest.cost] == [("a1", "infra"), ("a2", "ok")]
    assert store.attempts("trouble", outcome.artifact.fingerprint) == ["a2"]
    assert remains(store) == []


def test_cancel_ends_the_attempt_and_an_orchestrator_that_is_moved_does_not(
    tmp_path: Path, cluster: Path
) -> None:
    store = Store(tmp_path / "store")

    def interrupt(event: StageEvent) -> None:
        if event.type == "progress" and event.done >= 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        materialize(
            store, COUNT, RECIPE, {}, launcher=DetachedLauncher(cluster, cancel=False), on_event=interrupt
        )
    (pid,) = starts(cluster)
    assert not is_gone(int(pid), 0)
    assert store.ledger.rows() == []
    with pytest.raises(KeyboardInterrupt):
        materialize(
            store, COUNT, RECIPE, {}, launcher=DetachedLauncher(cluster, cancel=True), on_event=interrupt
        )
    assert starts(cluster) == [pid]
    assert is_gone(int(pid))
    assert [(row.attempt, row.label, row.error) for row in store.ledger.rows()] == [
        ("a1", "killed", "cancelled")
    ]
    outcome = materialize(store, COUNT, RECIPE, {}, launcher=DetachedLauncher(cluster))
    assert outcome.manifest.attempt == "a2"
    assert [cost.label for cost in outcome.manifest.cost] == ["killed", "ok"]
    assert remains(store) == []


def test_local_work_leaves_a_live_remote_attempt_alone(tmp_path: Path, cluster: Path) -> None:
    store = Store(tmp_path / "store")
    remote = orchestrator(store, cluster)
    wait_for_progress(store)
    outcome = materialize(store, COUNT, TinyRecipe(count=30, seconds=0.1), {}, launcher=InlineLauncher())
    assert remote.communicate(timeout=60)[0].split()[1] == outcome.artifact.content_digest
    assert remote.returncode == 0
    assert {row.label for row in store.ledger.rows()} == {"ok"}


def test_killed_between_commit_and_clearing_up(store: Store, cluster: Path) -> None:
    """The commit stands; the next request writes the missing row and clears up."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from codellm_dag.launch import materialize\n"
        "from codellm_dag.store import Store\n"
        "from tests.support.detached import DetachedLauncher\n"
        "from tests.support.tiny_recipes import TinyRecipe\n"
        "from tests.support.tiny_stages import WORDS\n"
        "store = Store(sys.argv[1])\n"
        "store.ledger.add = lambda row: os.kill(os.getpid(), signal.SIGKILL)\n"
        "materialize(store, WORDS, TinyRecipe(), {}, launcher=DetachedLauncher(Path(sys.argv[2])))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store.url, str(cluster)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert store.ledger.rows() == []
    assert remains(store) != []
    outcome = materialize(store, WORDS, TinyRecipe(), {}, launcher=DetachedLauncher(cluster))
    assert outcome.decision.action == "reused"
    assert [(row.attempt, row.label) for row in store.ledger.rows()] == [("a1", "ok")]
    assert remains(store) == []
    assert len(starts(cluster)) == 1


def test_a_damaged_result_is_computed_again_under_a_new_number(tmp_path: Path, cluster: Path) -> None:
    store = Store(tmp_path / "store")
    first = materialize(store, WORDS, TinyRecipe(), {}, launcher=DetachedLauncher(cluster))
    (store.local_path(first.artifact) / "words.txt").unlink()
    second = materialize(store, WORDS, TinyRecipe(), {}, launcher=DetachedLauncher(cluster))
    assert (first.manifest.attempt, second.manifest.attempt) == ("a1", "a2")
    assert first.artifact == second.artifact


def test_who_attaches_is_noted(tmp_path: Path, cluster: Path) -> None:
    store = Store(tmp_path / "store")

    def interrupt(event: StageEvent) -> None:
        if event.type == "progress":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    for run in ("run-1", "run-2", "run-2", "run-3"):
        launcher = DetachedLauncher(cluster, owner=run)
        with pytest.raises(KeyboardInterrupt):
            materialize(store, COUNT, RECIPE, {}, launcher=launcher, on_event=interrupt)
    record = launches(store).open()
    assert record is not None
    assert (record.owner, record.followers) == ("run-1", ("run-2", "run-3"))
    DetachedLauncher(cluster).end(record)


@pytest.mark.parametrize("listing", [1, 2, 3, 4])
def test_a_record_that_comes_while_we_look_is_attached_to(
    tmp_path: Path, cluster: Path, monkeypatch: pytest.MonkeyPatch, listing: int
) -> None:
    """Another orchestrator reserves a1 after any of our listings: we must never go on to a2."""
    store, launcher = Store(tmp_path / "store"), DetachedLauncher(cluster)
    request = StageRequest.model_validate(REQUEST | {"fingerprint": identify(COUNT, RECIPE, {}).fingerprint})
    listings = []

    def make(attempt: str) -> LaunchRecord:
        return launcher.reserve(request.model_copy(update={"attempt": attempt}))

    def children(prefix: str) -> list[str]:
        found = DiskBackend.children(store.backend, prefix)
        listings.append(prefix)
        if len(listings) == listing:
            launches(Store(store.url)).claim(make)
        return found

    monkeypatch.setattr(store.backend, "children", children)
    record, ours = launches(store).claim(make)
    assert (record.request.attempt, ours) == ("a1", listing > 3), "three listings are a look"
    assert launches(store).attempts() == ["a1"]
