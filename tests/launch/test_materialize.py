"""Getting artifacts with both launchers: results, failures, retries, waiting, resuming, clearing up."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from codellm_dag.launch import (
    InlineLauncher,
    InvalidRequestError,
    LocalLauncher,
    StageEvent,
    StageFailedError,
    materialize,
)
from codellm_dag.recipes import InvalidRecipeError
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages.registry import Stage
from codellm_dag.store import Store, StoreError
from codellm_dag.store.paths import attempt_prefix
from tests.support.choosing import ChoosingRecipe
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import COUNT, JOIN, TROUBLE, WORDS

LAUNCHERS = [InlineLauncher(), LocalLauncher(poll_seconds=0.05)]


@pytest.fixture(params=LAUNCHERS, ids=lambda launcher: launcher.name)
def launcher(request: pytest.FixtureRequest):
    return request.param


def leftovers(store: Store) -> list[str]:
    """Files below the work folders."""
    return [
        str(path)
        for name in ("work", "locks")
        for path in (store.work_root / name).rglob("*")
        if path.is_file()
    ]


def test_a_recipe_that_does_not_fit_the_runtime_is_refused_before_launch(store: Store, launcher) -> None:
    words = materialize(store, WORDS, TinyRecipe(), {}, launcher=launcher).artifact
    stage = Stage("join", "corpus", JOIN.module, "tests.support.choosing:ChoosingRecipe", dict(JOIN.slots))
    events: list[StageEvent] = []
    with pytest.raises(InvalidRecipeError, match=r"ChoosingRecipe\.depth = 2: needs as many threads"):
        materialize(
            store,
            stage,
            ChoosingRecipe(depth=2),
            {"words": words},
            launcher=launcher,
            runtime=Runtime(threads=1),
            on_event=events.append,
        )
    assert events == []
    assert [row.stage for row in store.ledger.rows()] == [WORDS.name]


def test_everything_reported_reaches_the_manifest(store: Store, launcher) -> None:
    events: list[StageEvent] = []
    outcome = materialize(
        store,
        WORDS,
        TinyRecipe(count=3, text="ü"),
        {},
        asset="my_words",
        partition="python",
        trial="t1",
        launcher=launcher,
        runtime=Runtime(threads=1, workers=2),
        on_event=events.append,
    )
    manifest = outcome.manifest
    assert (manifest.name, manifest.partition, manifest.kind) == ("my_words", "python", "corpus")
    assert manifest.metrics == {"words": 3}
    assert manifest.series == {"length": [(0, 4.0), (1, 4.0), (2, 4.0)]}
    assert manifest.tables == {"words": [{"text": "ü", "count": 3}]}
    assert (manifest.environment.threads, manifest.environment.workers) == (1, 2)
    assert "pydantic" in manifest.environment.packages
    assert [cost.label for cost in manifest.cost] == ["ok"]
    assert manifest.cost[0].devices == ["cpu"]
    assert manifest.cost[0].device_seconds > 0
    assert (store.local_path(outcome.artifact) / "words.txt").read_text() == "ü 0\nü 1\nü 2\n"
    assert store.refs.artifact("my_words", "python") == outcome.artifact
    row = store.ledger.rows()[0]
    assert (row.label, row.asset, row.partition, row.trial, row.attempt) == (
        "ok",
        "my_words",
        "python",
        "t1",
        manifest.attempt,
    )
    assert row.recipe["text"] == "ü"
    kinds = [event.type for event in events]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert {"progress", "metric", "table", "log", "point"} <= set(kinds)
    last = [event for event in events if event.type == "progress"][-1]
    assert (last.done, last.total, last.unit, last.title) == (3, 3, "words", "my_words/python")
    assert [event.message for event in events if event.type == "log"] == ["wrote 3 words"]
    assert leftovers(store) == []
    assert store.verify(manifest) == []


def test_both_launchers_make_the_same(tmp_path: Path) -> None:
    made = [
        materialize(Store(tmp_path / launcher.name), WORDS, TinyRecipe(), {}, launcher=launcher)
        for launcher in LAUNCHERS
    ]
    assert made[0].artifact == made[1].artifact
    printed = Store(tmp_path / "local").local_path(made[1].artifact) / "_volatile/stage.log"
    assert printed.read_text() == "printed by the stage\n"


def test_inputs_reach_the_stage(store: Store, launcher) -> None:
    one = materialize(store, WORDS, TinyRecipe(count=1), {}, launcher=launcher).artifact
    two = materialize(store, WORDS, TinyRecipe(count=2), {}, launcher=launcher).artifact
    inputs = {"words": one, "extra/b": two, "extra/a": one}
    outcome = materialize(store, JOIN, TinyRecipe(text="|"), inputs, launcher=launcher)
    text = (store.local_path(outcome.artifact) / "joined.txt").read_text()
    assert text == "word 0\n|a: word 0\n|b: word 0\nword 1\n"
    assert outcome.manifest.inputs == inputs


def test_a_hit_runs_nothing(store: Store, launcher) -> None:
    first = materialize(store, WORDS, TinyRecipe(), {}, launcher=launcher)
    events: list[StageEvent] = []
    second = materialize(store, WORDS, TinyRecipe(), {}, launcher=None, on_event=events.append)
    assert second.artifact == first.artifact
    assert second.manifest == first.manifest
    assert [event.type for event in events] == ["reused"]
    assert len(store.ledger.rows()) == 1


FAILURES = [
    ("value", "error", "ValueError: a bug"),
    ("memory", "oom", "MemoryError"),
    ("torch memory", "oom", "can't allocate memory"),
    ("diverged", "diverged", "loss is nan at step 3"),
    ("budget", "over_budget", "device-hours"),
    ("gate", "gate_missed", "a reference solution failed"),
    ("labelled", "evicted", "the node went away"),
    ("recipe", "invalid_recipe", "TinyRecipe.text: no"),
    ("exit", "error", r"the stage called sys.exit\(0\)"),
    ("nothing", "error", "the stage wrote no result"),
    ("pickle", "error", "model.pkl is a pickle"),
    ("bad metric", "error", "report: loss"),
]
PROCESS_FAILURES = [
    ("hard exit", "infra", r"ended without a closing message \(exit code 0\)"),
    ("segfault", "infra", r"ended without a closing message \(signal 11\)"),
    ("killed", "killed", r"its process was killed \(signal 9\)"),
    ("interrupt", "killed", "KeyboardInterrupt"),
]


def fail(store: Store, trouble: str, launcher, **more: Any) -> StageFailedError:
    with pytest.raises(StageFailedError) as caught:
        materialize(store, TROUBLE, TinyRecipe(trouble=trouble), {}, launcher=launcher, partition="p", **more)
    return caught.value


@pytest.mark.parametrize(("trouble", "label", "message"), FAILURES)
@pytest.mark.parametrize("launcher", LAUNCHERS, ids=["inline", "local"])
def test_failures_are_labelled(tmp_path: Path, launcher, trouble: str, label: str, message: str) -> None:
    store = Store(tmp_path / "store")
    check_failure(store, fail(store, trouble, launcher), label, message, launcher.name == "local")


@pytest.mark.parametrize(("trouble", "label", "message"), PROCESS_FAILURES)
def test_failures_of_processes(tmp_path: Path, trouble: str, label: str, message: str) -> None:
    store = Store(tmp_path / "store")
    check_failure(store, fail(store, trouble, LocalLauncher(), infra_retries=0), label, message, True)


def check_failure(store: Store, error: StageFailedError, label: str, message: str, quoted: bool) -> None:
    assert error.label == label
    assert str(error).startswith(f"trouble/p failed ({label}): ")
    assert re.search(message, str(error))
    if quoted:
        assert "It last printed:\nabout to get into trouble" in str(error)
        assert error.log_tail.startswith("about to get into trouble")
    rows = store.ledger.rows()
    assert [(row.label, row.attempt) for row in rows] == [(label, error.attempt)]
    assert rows[0].error
    assert store.refs.all() == []
    assert store.backend.children("artifacts/trouble") == [] or not list(store.manifests())
    assert store.attempts("trouble", rows[0].fingerprint) == [], "files of a failed attempt are removed"


def test_infra_is_retried_and_only_infra(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    events: list[StageEvent] = []
    outcome = materialize(
        store,
        TROUBLE,
        TinyRecipe(trouble="once", text=str(tmp_path / "mark")),
        {},
        launcher=InlineLauncher(),
        retry_seconds=0.01,
        on_event=events.append,
    )
    assert [row.label for row in store.ledger.rows()] == ["infra", "ok"]
    assert [cost.label for cost in outcome.manifest.cost] == ["infra", "ok"]
    kinds = [event.type for event in events if event.type in ("started", "failed", "retrying", "finished")]
    assert kinds == ["started", "failed", "retrying", "started", "finished"]
    error = fail(store, "connection", InlineLauncher(), infra_retries=2, retry_seconds=0.01)
    assert error.label == "infra"
    assert len(store.ledger.of("trouble", store.ledger.rows()[-1].fingerprint)) == 3


def test_a_flood_of_output_blocks_nothing_and_is_kept_short(tmp_path: Path) -> None:
    store = Store(tmp_path)
    outcome = materialize(store, TROUBLE, TinyRecipe(trouble="flood"), {}, launcher=LocalLauncher())
    log = store.local_path(outcome.artifact) / "_volatile/stage.log"
    assert log.stat().st_size == 1 << 20
    assert log.read_text().endswith("y\n")


def test_a_silent_stage_is_left_alone(tmp_path: Path) -> None:
    recipe = TinyRecipe(trouble="silent", seconds=1.5)
    outcome = materialize(Store(tmp_path), TROUBLE, recipe, {}, launcher=LocalLauncher(poll_seconds=0.01))
    assert outcome.manifest.cost[0].device_seconds >= 1.5


def test_numbers_that_are_not_finite(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = materialize(store, TROUBLE, TinyRecipe(trouble="nan"), {}, launcher=InlineLauncher()).artifact
    manifest = store.manifest(artifact)
    assert manifest.metrics == {"loss": "nan", "steps": 3}
    assert manifest.series == {"loss": [(0, 1.0), (1, None)]}
    text = store.backend.read(f"artifacts/trouble/{artifact.fingerprint}/manifest.json").decode()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_two_that_ask_at_once_compute_once(store: Store) -> None:
    """One computes, the others wait for it and reuse."""
    events: list[StageEvent] = []
    outcomes = []
    recipe = TinyRecipe(count=10, seconds=0.1)

    def ask() -> None:
        own = Store(store.url)
        outcomes.append(materialize(own, COUNT, recipe, {}, launcher=LocalLauncher(), on_event=events.append))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kinds = [event.type for event in events]
    assert (kinds.count("started"), kinds.count("waiting"), kinds.count("reused")) == (1, 2, 2)
    assert len({outcome.artifact for outcome in outcomes}) == 1
    assert len(store.ledger.rows()) == 1
    assert leftovers(store) == []


def test_an_input_that_is_not_whole_is_refused(store: Store) -> None:
    words = materialize(store, WORDS, TinyRecipe(), {}, launcher=InlineLauncher())
    prefix = attempt_prefix("words", words.artifact.fingerprint, words.manifest.attempt)
    store.backend.delete(f"{prefix}/words.txt")
    with pytest.raises(
        InvalidRequestError,
        match=r"input words of stage 'join', the corpus 'words' \(.*\), is not whole: output words.txt is",
    ):
        materialize(store, JOIN, TinyRecipe(), {"words": words.artifact}, launcher=InlineLauncher())
    changed = words.artifact.model_copy(update={"content_digest": "0" * 64})
    materialize(store, WORDS, TinyRecipe(), {}, launcher=InlineLauncher())
    with pytest.raises(InvalidRequestError, match="was computed again with another content"):
        materialize(store, JOIN, TinyRecipe(), {"words": changed}, launcher=InlineLauncher())


def test_a_watcher_that_fails_does_not_stop_the_work(tmp_path: Path) -> None:
    def broken(_: StageEvent) -> None:
        raise RuntimeError("no terminal")

    with pytest.warns(UserWarning, match="the watcher of words failed on a started event"):
        outcome = materialize(
            Store(tmp_path), WORDS, TinyRecipe(), {}, launcher=InlineLauncher(), on_event=broken
        )
    assert outcome.decision.action == "computed"


def test_an_interrupt_leaves_a_row_and_no_files(tmp_path: Path) -> None:
    class Interrupted:
        name = "interrupted"

        def run(self, job, _):
            Path(job.request.out, "half").write_text("x")
            raise KeyboardInterrupt

    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        materialize(store, WORDS, TinyRecipe(), {}, launcher=Interrupted())
    rows = store.ledger.rows()
    assert [(row.label, row.error) for row in rows] == [("killed", "interrupted")]
    assert store.attempts("words", rows[0].fingerprint) == []


def test_a_store_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match="cannot be written: .*give a folder you may write to"):  # noqa: RUF043
        materialize(store, WORDS, TinyRecipe(), {}, launcher=InlineLauncher())


def test_a_launcher_that_cannot_start_is_infra(tmp_path: Path) -> None:
    error = fail(Store(tmp_path), "value", LocalLauncher(python="/no/such/python"), infra_retries=0)
    assert error.label == "infra"
    assert "/no/such/python" in str(error)
