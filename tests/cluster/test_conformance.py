"""What holds for every launcher: the same events, results, failures, retries, cancellation.

``pytest tests/cluster/test_conformance.py`` runs it on this machine and on the test cluster. With
``--kubeconfig FILE --cluster-store s3://… --cluster-image NAME`` (and ``--cluster-namespace``) the second is
a real cluster; its image must hold this source tree, tests included, on PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from codellm_dag.launch import StageEvent, StageFailedError, identify, materialize
from codellm_dag.store import content_digest
from tests.cluster.places import ROOT, Place, on_bed, on_cluster, on_this_machine
from tests.launch.test_dagster import bridge_for
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import COUNT, JOIN, TROUBLE, WORDS


@pytest.fixture(params=["local", "kubernetes"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each place in turn; nothing is left there afterwards."""
    option = request.config.getoption
    if request.param == "local":
        chosen = on_this_machine(tmp_path)
    elif kubeconfig := option("--kubeconfig", None):
        store = f"{option('--cluster-store')}/{tmp_path.name}"
        values = {"namespace": option("--cluster-namespace"), "image": option("--cluster-image")}
        chosen = on_cluster(kubeconfig, store, **values)
    else:
        chosen = on_bed(tmp_path)
    with chosen as place:
        yield place
        deadline = time.monotonic() + 20
        while (left := place.left()) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert left == []


def digest_of(**files: str) -> str:
    """The content digest of a result, worked out by hand."""
    return content_digest(
        {name.replace("_", "."): hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
    )


def run(place: Place, stage: Any, inputs: Any = None, **more: Any) -> Any:
    recipe = more.pop("recipe", None) or TinyRecipe()
    return materialize(
        place.store,
        stage,
        recipe,
        inputs or {},
        launcher=place.launcher(),
        runtime=place.runtime,
        infra_retries=1,
        retry_seconds=0.05,
        **more,
    )


def test_results_events_and_what_the_manifest_says(place: Place) -> None:
    events: list[StageEvent] = []
    outcome = run(
        place, WORDS, recipe=TinyRecipe(text="ü"), asset="my_words", partition="p", on_event=events.append
    )
    manifest = outcome.manifest
    assert outcome.artifact.content_digest == digest_of(words_txt="ü 0\nü 1\nü 2\n")
    assert (manifest.name, manifest.partition, manifest.kind) == ("my_words", "p", "corpus")
    assert manifest.metrics == {"words": 3}
    assert manifest.series == {"length": [(0, 4.0), (1, 4.0), (2, 4.0)]}
    assert manifest.tables == {"words": [{"text": "ü", "count": 3}]}
    assert (manifest.environment.threads, manifest.environment.workers) == (1, 1)
    assert [cost.label for cost in manifest.cost] == ["ok"]
    assert place.store.verify(manifest) == []
    by_kind = {event.type: event for event in events}
    assert (events[0].type, events[-1].type) == ("started", "finished")
    assert (by_kind["progress"].done, by_kind["progress"].total, by_kind["progress"].unit) == (3, 3, "words")
    assert by_kind["metric"].values == {"words": 3}
    assert (by_kind["table"].name, by_kind["table"].rows) == ("words", [{"text": "ü", "count": 3}])
    assert [event.step for event in events if event.type == "point"] == [0, 1, 2]
    assert "wrote 3 words" in [event.message for event in events if event.type == "log"]
    assert [row.label for row in place.store.ledger.rows()] == ["ok"]
    assert place.store.ledger.rows()[0].cpu_seconds is not None


def test_inputs_and_a_hit(place: Place) -> None:
    one = run(place, WORDS, recipe=TinyRecipe(count=1)).artifact
    two = run(place, WORDS, recipe=TinyRecipe(count=2)).artifact
    inputs = {"words": one, "extra/b": two, "extra/a": one}
    outcome = run(place, JOIN, inputs, recipe=TinyRecipe(text="|"))
    text = "word 0\n|a: word 0\n|b: word 0\nword 1\n"
    assert outcome.artifact.content_digest == digest_of(joined_txt=text)
    assert outcome.manifest.inputs == inputs
    events: list[StageEvent] = []
    again = run(place, JOIN, inputs, recipe=TinyRecipe(text="|"), on_event=events.append)
    assert again.artifact == outcome.artifact
    assert [event.type for event in events] == ["reused"]
    assert len(place.store.ledger.rows()) == 3


FAILURES = [
    ("value", "error", "ValueError: a bug"),
    ("memory", "oom", "MemoryError"),
    ("diverged", "diverged", "loss is nan at step 3"),
    ("budget", "over_budget", "device-hours"),
    ("gate", "gate_missed", "a reference solution failed"),
    ("recipe", "invalid_recipe", "TinyRecipe.text: no"),
    ("exit", "error", "the stage called sys.exit(0)"),
    ("nothing", "error", "the stage wrote no result"),
]


@pytest.mark.parametrize(("trouble", "label", "message"), FAILURES)
def test_failures_are_labelled_and_not_repeated(place: Place, trouble: str, label: str, message: str) -> None:
    with pytest.raises(StageFailedError) as caught:
        run(place, TROUBLE, recipe=TinyRecipe(trouble=trouble), partition="p")
    assert caught.value.label == label
    assert str(caught.value).startswith(f"trouble/p failed ({label}): ")
    assert message in str(caught.value)
    assert "about to get into trouble" in caught.value.log_tail
    rows = place.store.ledger.rows()
    assert [(row.label, row.attempt) for row in rows] == [(label, caught.value.attempt)]
    assert place.store.refs.all() == []
    assert place.store.attempts("trouble", rows[0].fingerprint) == []


def test_infrastructure_is_tried_again_as_often_as_allowed(place: Place) -> None:
    events: list[StageEvent] = []
    with pytest.raises(StageFailedError) as caught:
        run(place, TROUBLE, recipe=TinyRecipe(trouble="connection"), on_event=events.append)
    assert caught.value.label == "infra"
    assert [row.label for row in place.store.ledger.rows()] == ["infra", "infra"]
    kinds = [event.type for event in events if event.type in ("started", "failed", "retrying")]
    assert kinds == ["started", "failed", "retrying", "started", "failed"]


COUNTED = "".join(f"{number}\n" for number in range(40))


def orchestrator(place: Place) -> subprocess.Popen[str]:
    """Another process that counts to 40 in 8 seconds or so; it has begun to count."""
    command = [sys.executable, "-m", "tests.cluster.counting", place.store.url, place.name]
    command += [place.runtime.model_dump_json(), "40", "0.2"]
    process = subprocess.Popen(
        command, env={**os.environ, **place.variables}, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("progress"):
            return process
    pytest.fail(f"the orchestrator ended with {process.wait()}")


def test_cancelling_ends_the_work_and_says_so(place: Place) -> None:
    process = orchestrator(place)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert [row.label for row in place.store.ledger.rows()] == ["killed"]
    identity = identify(COUNT, TinyRecipe(count=40, seconds=0.2), {})
    assert place.store.lookup("count", identity.fingerprint).manifest is None


def test_a_killed_orchestrators_work_is_taken_up(place: Place) -> None:
    """Here the stage dies with it and is resumed; on a cluster it goes on and is attached to."""
    process = orchestrator(place)
    process.kill()
    process.communicate(timeout=60)
    outcome = run(place, COUNT, recipe=TinyRecipe(count=40, seconds=0.2))
    assert outcome.artifact.content_digest == digest_of(count_txt=COUNTED)
    labels = [row.label for row in place.store.ledger.rows()]
    began_at = int(outcome.manifest.metrics["began_at"])
    assert (labels, began_at > 0) == ((["killed", "ok"], True) if place.name == "local" else (["ok"], False))
    steps = [step for step, _ in outcome.manifest.series["square"]]
    assert (steps[0], steps[-1]) == (0, 39)
    assert len(steps) >= (38 if place.name == "local" else 40), "what was not sent yet dies with a stage"
    if place.bed is not None:
        assert len({pod["metadata"]["name"] for pod in place.bed.pods()}) == 1, "one training, never two"


def test_dagster_shows_the_same(place: Place) -> None:
    """Data version, metadata and a check, as assets get them through a Pipes session."""
    sessions: list[dg.PipesSession] = []

    @dg.asset(check_specs=[dg.AssetCheckSpec("has_words", asset="words")])
    def words(context) -> dg.MaterializeResult:
        outcome = run(place, WORDS, dagster=bridge_for(context, sessions))
        passed = outcome.manifest.metrics["words"] == 3
        return dg.MaterializeResult(
            data_version=dg.DataVersion(outcome.artifact.content_digest),
            metadata=outcome.manifest.metrics,
            check_results=[dg.AssetCheckResult(passed=passed, check_name="has_words")],
        )

    result = dg.materialize([words])
    (materialization,) = result.asset_materializations_for_node("words")
    assert materialization.metadata["words"].value == 3
    version = digest_of(words_txt="word 0\nword 1\nword 2\n")
    assert (materialization.tags or {})["dagster/data_version"] == version
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]
    (session,) = sessions
    told = [payload["event"] for payload in session.message_handler.get_custom_messages()]
    assert {"progress", "metric", "points", "table", "environment"} <= set(told)
    assert session.message_handler.received_closed_message
