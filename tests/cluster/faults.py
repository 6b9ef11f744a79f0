"""What the tests of faults share: a test cluster with a store, and the row that says what comes of a fault.

The launcher talks to the test cluster over HTTP; the pods are scripted, what they say goes through the store.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from codellm_dag.launch import StageEvent, StageFailedError, identify, materialize
from codellm_dag.launch.kubernetes.api import Api
from codellm_dag.launch.kubernetes.launcher import KubernetesLauncher
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.store import Store
from tests.cluster.bed import Bed, steps
from tests.cluster.bed.kubelet.worker import Step
from tests.cluster.scripted_stage import ScriptedStage
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import WORDS

RECIPE = TinyRecipe()
GROUP = f"words-{identify(WORDS, RECIPE, {}).fingerprint[:12]}-a1"


@dataclass
class Cluster:
    """A bed, a store, and what runs on them."""

    bed: Bed
    store: Store
    stage: ScriptedStage
    events: list[StageEvent] = field(default_factory=list)

    def api(self, budget: float = 5.0) -> Api:
        return Api.connect(str(self.bed.kubeconfig()), timeout=2, budget=budget)

    def run(
        self, shape: dict[str, Any] | None = None, budget: float = 5.0, cancel: bool = True, on_event=None
    ):
        launcher = KubernetesLauncher(
            self.api(budget), cancel_requested=lambda: cancel, message_seconds=0.05, watch_seconds=2
        )
        values = {"namespace": "default", "image": "registry.example/stage:1", "allow_dirty": True}
        values |= {"grace_seconds": 1, "infra_retries": 0, **(shape or {})}
        return materialize(
            self.store,
            WORDS,
            RECIPE,
            {},
            launcher=launcher,
            runtime=Runtime(threads=1, workers=1, kubernetes=PodShape.parse(values)),
            on_event=on_event or self.events.append,
            retry_seconds=0.01,
        )

    def asked(self, verb: str, least: int) -> int:
        """How often the launcher asked this of Jobs; a request is noted after its answer."""
        self.bed.wait(lambda: self.bed.journal.count(verb, "jobs") >= least, 2)
        return self.bed.journal.count(verb, "jobs")

    @property
    def ledger(self) -> list[tuple[str, str]]:
        return sorted((row.attempt, row.label) for row in self.store.ledger.rows())

    @property
    def jobs(self) -> list[str]:
        return sorted(job["metadata"]["name"] for job in self.bed.objects("jobs"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    store = Store(tmp_path / "store")
    with Bed(tmp_path / "bed") as bed:
        yield Cluster(bed, store, ScriptedStage(store))
        assert bed.problems == []


Scripts = Callable[[ScriptedStage], Sequence[tuple[str, Sequence[Step]]]]
"""The scripts of pods, by the end of their Job's name (``a1``), with ``#2`` for the second pod of that Job,
and ``/1`` for the pod with index 1."""


@dataclass(frozen=True)
class Row:
    """One failure, and all that may come of it."""

    name: str
    scripts: Scripts
    label: str
    says: str = ""
    shape: dict[str, Any] = field(default_factory=dict)
    ledger: tuple[tuple[str, str], ...] | None = None
    creates: int = 1
    deletes: int = 0
    seconds: float = 1.5


def short(**deadlines: int) -> dict[str, Any]:
    """A pod shape with these deadlines, in seconds."""
    return {"deadlines": deadlines}


FOREVER = steps.sleep(None)


def play(bed: Bed, scripts: Sequence[tuple[str, Sequence[Step]]]) -> None:
    """Give the bed the scripts of a row."""
    for place, script in scripts:
        job, _, number = place.partition("#")
        job, _, index = job.partition("/")
        bed.script(
            f"words-*-{job}",
            *script,
            index=int(index) if index else None,
            attempt=int(number) if number else None,
        )


def check_row(row: Row, cluster: Cluster) -> None:
    """Play the row's scripts: its label, words, ledger, creates, deletes and time must come of them."""
    play(cluster.bed, row.scripts(cluster.stage))
    began = time.monotonic()
    if row.label == "ok":
        outcome = cluster.run(row.shape)
        assert cluster.store.verify(outcome.artifact) == []
        assert not cluster.store.backend.sizes("launches")
    else:
        with pytest.raises(StageFailedError) as failed:
            cluster.run(row.shape)
        assert failed.value.label == row.label, str(failed.value)
        assert re.search(row.says, str(failed.value)), str(failed.value)
    assert time.monotonic() - began < row.seconds
    assert cluster.ledger == sorted(row.ledger or [("a1", row.label)])
    assert cluster.asked("create", row.creates) == row.creates
    assert cluster.asked("delete", row.deletes) == row.deletes


def in_mid_run(cluster: Cluster, act: Callable[[], Any], *rest: Step) -> None:
    """Script a stage during whose run `act` is called, and which then ends well."""
    stage = cluster.stage
    mischief = steps.call(lambda _: act() and None)
    begin = (*steps.BEGIN, stage.opens(), stage.point(0), steps.sleep(0.3))
    end = (steps.sleep(0.3), stage.point(1), stage.stores(), stage.closes(), steps.exit(0))
    cluster.bed.script("words-*", *begin, mischief, *rest, *end)


def interrupted(cluster: Cluster, *, cancel: bool) -> None:
    """Run, and interrupt the orchestrator at the first point; with `cancel` because someone cancelled."""

    def interrupt(event: StageEvent) -> None:
        if event.type == "point":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        cluster.run(cancel=cancel, on_event=interrupt)
