"""What clusters do to stages: every failure with its label, creates, deletes and time to verdict.

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
from codellm_dag.launch.kubernetes.kinds import JOB, POD
from codellm_dag.launch.kubernetes.launcher import KubernetesLauncher
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.store import Store
from tests.cluster.bed import Bed, steps
from tests.cluster.bed.kubelet.worker import Step, Worker
from tests.cluster.scripted_stage import ScriptedStage
from tests.support.stores import own_cache
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import WORDS

__all__ = ["own_cache"]

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
    return {"deadlines": deadlines}


NODE = {"nodes": 2}
FOREVER = steps.sleep(None)
OOM_LINE = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79 GiB"
NCCL_LINE = "[rank0]: NCCL watchdog thread terminated with exception: NCCL error: remote process exited"


def on_kubelet(act: Callable[[Worker], Any]) -> Step:
    def step(worker: Worker) -> None:
        act(worker)
        worker.sleep(None)

    return steps.call(step)


ROWS = [
    Row(
        "unschedulable",
        lambda _: [("a1", [steps.unschedulable(), FOREVER])],
        "infra",
        r"no node took it for 1 s \(Unschedulable: 0/4 nodes are available: 4 Insufficient nvidia.com/gpu.*"
        r"deadlines.scheduling",
        short(scheduling=1),
        deletes=1,
        seconds=3,
    ),
    Row(
        "unschedulable for a while",
        lambda s: [("a1", [steps.unschedulable(), steps.sleep(0.3), *s.succeeds()])],
        "ok",
    ),
    Row(
        "image that cannot be pulled",
        lambda _: [("a1", [steps.schedule(), steps.pull_fails(), FOREVER])],
        "infra",
        r"its container did not start for 1 s \(ImagePullBackOff: Back-off.*deadlines.pull",
        short(pull=1),
        deletes=1,
        seconds=3,
    ),
    Row(
        "image that can be pulled at the second try",
        lambda s: [("a1", [steps.schedule(), steps.pull_fails(), steps.sleep(0.2), *s.succeeds()[1:]])],
        "ok",
    ),
    Row(
        "image name that is none",
        lambda _: [
            ("a1", [steps.schedule(), steps.waiting("InvalidImageName", "invalid reference"), FOREVER])
        ],
        "error",
        "InvalidImageName: invalid reference; correct `image`",
        deletes=1,
    ),
    Row(
        "secret that is missing",
        lambda _: [
            (
                "a1",
                [
                    steps.schedule(),
                    steps.waiting("CreateContainerConfigError", 'secret "s3" not found'),
                    FOREVER,
                ],
            )
        ],
        "infra",
        'CreateContainerConfigError: secret "s3" not found',
        short(pull=1),
        deletes=1,
        seconds=3,
    ),
    Row(
        "rejected by its node",
        lambda _: [("a1", [steps.schedule(), steps.reject()])],
        "infra",
        "rejected by its node: OutOfnvidia.com/gpu: Node didn't have enough resource",
    ),
    Row(
        "rejected once, then another attempt",
        lambda s: [("a1", [steps.schedule(), steps.reject()]), ("a2", s.succeeds())],
        "ok",
        shape={"infra_retries": 1},
        ledger=(("a1", "infra"), ("a2", "ok")),
        creates=2,
    ),
    Row(
        "evicted before it started",
        lambda s: [("a1", s.succeeds()), ("a1#1", [steps.schedule(), steps.evict()])],
        "ok",
        ledger=(("a1", "ok"),),
    ),
    Row(
        "out of memory",
        lambda s: [("a1", [*steps.BEGIN, s.opens(), steps.out_of_memory()])],
        "oom",
        r"ran out of memory \(OOMKilled, exit code 137\); raise `memory`",
        {"infra_retries": 2},
    ),
    Row(
        "out of GPU memory, told by the stage",
        lambda s: [("a1", [*steps.BEGIN, s.opens(), s.fails("oom", OOM_LINE), s.closes(), steps.exit(1)])],
        "oom",
        "CUDA out of memory",
        {"infra_retries": 2},
    ),
    Row(
        "out of GPU memory, told by the log only",
        lambda s: [("a1", [*steps.BEGIN, s.opens(), steps.log(OOM_LINE + "\n"), steps.exit(1)])],
        "oom",
        "ran out of GPU memory: torch.OutOfMemoryError",
        {"infra_retries": 2},
    ),
    Row(
        "evicted in mid-training",
        lambda s: [
            ("a1", s.succeeds(first=2)),
            ("a1#1", [*steps.BEGIN, s.opens(), s.point(0), s.point(1), s.point(2), steps.evict()]),
        ],
        "ok",
        ledger=(("a1", "ok"), ("a1.1", "evicted")),
    ),
    Row(
        "pre-empted in mid-training",
        lambda s: [("a1", s.succeeds()), ("a1#1", [*steps.BEGIN, s.opens(), steps.preempt()])],
        "ok",
        ledger=(("a1", "ok"), ("a1.1", "evicted")),
        seconds=3,
    ),
    Row(
        "its node shuts down",
        lambda s: [
            ("a1", s.succeeds()),
            (
                "a1#1",
                [*steps.BEGIN, s.opens(), on_kubelet(lambda w: w.kubelet.shut_down_node(w.key, 0.1))],
            ),
        ],
        "ok",
        ledger=(("a1", "ok"), ("a1.1", "evicted")),
        seconds=3,
    ),
    Row(
        "evicted more often than the budget allows",
        lambda s: [("a1", [*steps.BEGIN, s.opens(), steps.evict()])],
        "evicted",
        "interrupted 2 times",
        {"preemptions": 1},
        (("a1", "evicted"), ("a1.1", "evicted"), ("a1.2", "evicted")),
        deletes=1,
    ),
    Row(
        "evicted for its own use of disk",
        lambda s: [
            (
                "a1",
                [
                    *steps.BEGIN,
                    s.opens(),
                    steps.evict(message="Pod ephemeral local storage usage exceeds the total limit of 20Gi."),
                ],
            )
        ],
        "error",
        "raise `ephemeral_storage`",
        deletes=1,
    ),
    Row(
        "its node is lost",
        lambda s: [("a1", [*steps.BEGIN, s.opens(), steps.lose_node()]), ("a2", s.succeeds())],
        "ok",
        shape={"infra_retries": 1, **short(silence=1)},
        ledger=(("a1", "infra"), ("a2", "ok")),
        creates=2,
        deletes=1,
        seconds=4,
    ),
    Row(
        "its node is lost, and says so by the phase",
        lambda s: [("a1", [*steps.BEGIN, s.opens(), steps.unknown(), FOREVER])],
        "infra",
        r"its node was lost for 1 s \(.*NodeLost Node is lost\)",
        short(silence=1),
        deletes=1,
        seconds=3,
    ),
    Row(
        "its node is lost and removed",
        lambda s: [
            ("a1", s.succeeds()),
            ("a1#1", [*steps.BEGIN, s.opens(), on_kubelet(lambda w: w.kubelet.collect(w.key))]),
        ],
        "ok",
        ledger=(("a1", "ok"), ("a1.1", "evicted")),
        seconds=3,
    ),
    Row(
        "exit code 0 without a word",
        lambda _: [("a1", [*steps.BEGIN, steps.log("hello\n"), steps.exit(0)])],
        "infra",
        r"(?s)no closing message.*hello",
    ),
    Row(
        "exit code 0 without a closing message",
        lambda s: [("a1", [*steps.BEGIN, s.opens(), s.stores(), steps.exit(0)])],
        "infra",
        "no closing message",
    ),
    Row(
        "a closing message without a result",
        lambda s: [("a1", [*steps.BEGIN, s.opens(), s.closes(), steps.exit(0)])],
        "error",
        "named no result",
        {"infra_retries": 2},
    ),
    Row(
        "a result that is not in the store",
        lambda s: [("a1", [*steps.BEGIN, s.opens(), s.stores(file=False), s.closes(), steps.exit(0)])],
        "infra",
        "words.txt is not in the store",
    ),
    Row(
        "a stage that says nothing at all",
        lambda _: [("a1", [*steps.BEGIN, FOREVER])],
        "infra",
        "said nothing for 1 s.*deadlines.start",
        short(start=1),
        deletes=1,
        seconds=3,
    ),
    Row(
        "a stage that hangs while its watcher lives",
        lambda s: [("a1", [*steps.BEGIN, s.opens(), s.progress(), s.hangs()])],
        "infra",
        "fell silent for 1 s.*deadlines.silence",
        short(silence=1),
        deletes=1,
        seconds=3,
    ),
    Row(
        "a stage that runs too long",
        lambda s: [("a1", [*steps.BEGIN, s.opens(), s.works()])],
        "over_budget",
        "ran too long.*deadlines.run",
        {"infra_retries": 2, **short(run=2)},
        deletes=1,
        seconds=4,
    ),
    Row(
        "a stage that diverges",
        lambda s: [
            ("a1", [*steps.BEGIN, s.opens(), s.fails("diverged", "loss is nan"), s.closes(), steps.exit(1)])
        ],
        "diverged",
        "loss is nan",
        {"infra_retries": 2},
    ),
    Row(
        "an exit code without a word",
        lambda _: [("a1", [*steps.BEGIN, steps.exit(3)])],
        "infra",
        "ended with exit code 3 without a closing message",
    ),
    Row(
        "a lost connection between pods",
        lambda s: [
            ("a1", [*steps.BEGIN, s.opens(), FOREVER]),
            ("a1/1", [*steps.BEGIN, steps.sleep(0.1), steps.log(NCCL_LINE + "\n"), steps.exit(1)]),
            ("a2", s.succeeds()),
            ("a2/1", [*steps.BEGIN, steps.sleep(0.2), steps.exit(0)]),
        ],
        "ok",
        shape={"infra_retries": 1, **NODE},
        ledger=(("a1", "infra"), ("a2", "ok")),
        creates=2,
        seconds=4,
    ),
    Row(
        "one of two pods pre-empted",
        lambda s: [
            ("a1", [*steps.BEGIN, s.opens(), FOREVER]),
            ("a1/1", [*steps.BEGIN, steps.sleep(0.1), steps.preempt()]),
            ("a2", s.succeeds()),
            ("a2/1", [*steps.BEGIN, steps.sleep(0.2), steps.exit(0)]),
        ],
        "ok",
        shape=NODE,
        ledger=(("a1", "evicted"), ("a2", "ok")),
        creates=2,
        seconds=5,
    ),
]


def play(bed: Bed, scripts: Sequence[tuple[str, Sequence[Step]]]) -> None:
    for place, script in scripts:
        job, _, number = place.partition("#")
        job, _, index = job.partition("/")
        bed.script(
            f"words-*-{job}",
            *script,
            index=int(index) if index else None,
            attempt=int(number) if number else None,
        )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_failure(row: Row, cluster: Cluster) -> None:
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


# What the API server and the network do. Each begins in mid-run, when the stage has said something.


def in_mid_run(cluster: Cluster, act: Callable[[], Any], *rest: Step) -> None:
    """Script a stage during whose run `act` is called, and which then ends well."""
    stage = cluster.stage
    mischief = steps.call(lambda _: act() and None)
    begin = (*steps.BEGIN, stage.opens(), stage.point(0), steps.sleep(0.3))
    end = (steps.sleep(0.3), stage.point(1), stage.stores(), stage.closes(), steps.exit(0))
    cluster.bed.script("words-*", *begin, mischief, *rest, *end)


def storm(cluster: Cluster) -> None:
    cluster.bed.faults.fail(code=503, times=12)
    cluster.bed.faults.close_watches()


def too_old(cluster: Cluster) -> None:
    cluster.bed.expire()
    cluster.bed.faults.close_watches()


NETWORK: dict[str, Callable[[Cluster], Any]] = {
    "503 storm while it is followed": storm,
    "watches that are closed": lambda c: c.bed.faults.close_watches(),
    "watches that break": lambda c: c.bed.faults.close_watches(cleanly=False),
    "a history that is too old (410)": too_old,
    "a watch that loses the end of the Job": lambda c: c.bed.faults.lose_event("jobs", times=50),
    "a watch that loses what pods do": lambda c: c.bed.faults.lose_event("pods", times=50),
    "a watch that tells everything twice": lambda c: c.bed.faults.repeat_event(times=50),
    "a server that does not answer": lambda c: (c.bed.faults.stall(3, times=3), c.bed.faults.close_watches()),
    "answers that never come": lambda c: (c.bed.faults.drop(times=6), c.bed.faults.close_watches()),
}


@pytest.mark.parametrize("name", NETWORK)
def test_the_api_servers_troubles_are_none_of_the_stages(name: str, cluster: Cluster) -> None:
    in_mid_run(cluster, lambda: NETWORK[name](cluster))
    outcome = cluster.run(budget=20)
    assert outcome.manifest.attempt == "a1"
    assert [step for step, _ in outcome.manifest.series["loss"]] == [0, 1]
    assert cluster.ledger == [("a1", "ok")]
    assert cluster.bed.journal.count("create", "jobs") == 1
    assert cluster.bed.journal.count("delete", "jobs") == 0


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        (lambda faults: faults.fail("create", "jobs", code=429, retry_after=1), 2),
        (lambda faults: faults.fail("create", "jobs", code=500, times=2), 3),
        (lambda faults: faults.drop("create", "jobs"), 2),
        (lambda faults: faults.drop("create", "jobs", applied=True), 2),
    ],
    ids=["429", "500 twice", "dropped", "dropped after it took effect: 409 at the second try"],
)
def test_a_create_that_fails_for_now(fault, requests: int, cluster: Cluster) -> None:
    cluster.bed.otherwise(*cluster.stage.succeeds())
    fault(cluster.bed.faults)
    cluster.run()
    assert cluster.ledger == [("a1", "ok")]
    assert cluster.bed.journal.count("create", "jobs") == requests
    assert cluster.jobs == [GROUP]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (422, "refused Job words-.*422.*correct the pod shape"),
        (403, "refused Job words-.*403.*give the user or ServiceAccount the right"),
    ],
)
def test_a_create_that_is_refused_is_not_repeated(code: int, says: str, cluster: Cluster) -> None:
    cluster.bed.faults.fail("create", "jobs", code=code, times=9)
    with pytest.raises(StageFailedError, match=says) as failed:
        cluster.run({"infra_retries": 2})
    assert failed.value.label == "error"
    assert cluster.bed.journal.count("create", "jobs") == 1


def test_a_namespace_that_does_not_exist(cluster: Cluster) -> None:
    with pytest.raises(StageFailedError, match="create the namespace nowhere"):
        cluster.run({"namespace": "nowhere"})


def test_lost_contact_leaves_the_group_running_and_the_next_run_attaches(cluster: Cluster) -> None:
    stage, bed = cluster.stage, cluster.bed

    def cut_off() -> None:
        bed.faults.fail(code=503, times=10_000)
        bed.faults.close_watches()

    in_mid_run(cluster, cut_off, steps.sleep(2), stage.progress())
    with pytest.raises(StageFailedError, match="is left running, and the next run attaches to it") as failed:
        cluster.run({"infra_retries": 2}, budget=1)
    assert failed.value.label == "infra"
    assert cluster.ledger == []
    bed.faults.clear()
    assert cluster.run().manifest.attempt == "a1"
    assert [event.message for event in cluster.events if event.type == "started"][1].startswith("attached to")
    assert cluster.ledger == [("a1", "ok")]
    assert cluster.jobs == [GROUP]


def test_a_job_that_someone_deletes_is_not_run_again(cluster: Cluster) -> None:
    bed = cluster.bed

    def delete() -> None:
        assert cluster.api().delete(JOB, "default", GROUP), "it was there"

    in_mid_run(cluster, delete, FOREVER)
    with pytest.raises(StageFailedError, match="was deleted by someone else; run again") as failed:
        cluster.run({"infra_retries": 2, "preemptions": 2})
    assert failed.value.label == "killed"
    assert bed.journal.count("create", "jobs") == 1


def test_a_pod_that_someone_deletes_counts_as_a_pre_emption(cluster: Cluster) -> None:
    def delete() -> None:
        (pod,) = cluster.bed.pods(GROUP)
        cluster.api().delete(POD, "default", pod["metadata"]["name"])

    in_mid_run(cluster, delete, FOREVER)
    play(cluster.bed, [("a2", cluster.stage.succeeds())])
    assert cluster.run().manifest.attempt == "a2"
    assert cluster.ledger == [("a1", "evicted"), ("a2", "ok")]


def interrupted(cluster: Cluster, *, cancel: bool) -> None:
    def interrupt(event: StageEvent) -> None:
        if event.type == "point":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        cluster.run(cancel=cancel, on_event=interrupt)


def test_cancel_ends_the_whole_group_with_its_grace(cluster: Cluster) -> None:
    stage = cluster.stage
    cluster.bed.script("words-*", *steps.BEGIN, stage.opens(), stage.point(0), FOREVER)
    began = time.monotonic()
    interrupted(cluster, cancel=True)
    cluster.bed.wait(lambda: not cluster.bed.objects("jobs") and not cluster.bed.pods(), 5)
    assert time.monotonic() - began < 4
    (row,) = cluster.store.ledger.rows()
    assert (row.attempt, row.label, row.error) == ("a1", "killed", "cancelled")


def test_an_orchestrator_that_is_moved_leaves_the_group_and_attaches_later(cluster: Cluster) -> None:
    stage = cluster.stage
    end = (steps.sleep(0.5), stage.stores(), stage.closes(), steps.exit(0))
    cluster.bed.script("words-*", *steps.BEGIN, stage.opens(), stage.point(0), *end)
    interrupted(cluster, cancel=False)
    assert cluster.ledger == []
    assert cluster.jobs == [GROUP]
    assert cluster.run().manifest.attempt == "a1"
    assert cluster.bed.journal.count("delete", "jobs") == 0
    assert len(cluster.bed.pods(GROUP)) == 1


def test_a_job_that_ended_and_was_removed_while_nobody_followed_it(cluster: Cluster) -> None:
    stage = cluster.stage
    end = (stage.stores(), stage.closes(), steps.exit(0))
    cluster.bed.script("words-*", *steps.BEGIN, stage.opens(), stage.point(0), *end)
    interrupted(cluster, cancel=False)
    cluster.bed.wait(lambda: cluster.bed.get("jobs", GROUP)["status"].get("succeeded"))
    cluster.api().delete(JOB, "default", GROUP)
    cluster.bed.wait(lambda: not cluster.jobs)
    assert cluster.run().manifest.attempt == "a1"
    assert cluster.ledger == [("a1", "ok")]
    assert not cluster.jobs, "it is not run again"


QUEUE = {"queue": "team-a"}


def admit(cluster: Cluster, value: bool = True) -> None:
    cluster.bed.edit("jobs", GROUP, lambda job: job["spec"].update(suspend=not value))


def test_a_queue_that_never_admits(cluster: Cluster) -> None:
    with pytest.raises(
        StageFailedError, match=r"its queue did not admit it for 1 s.*deadlines.admission"
    ) as failed:
        cluster.run(QUEUE | short(admission=1))
    assert failed.value.label == "infra"
    assert cluster.bed.pods() == []
    assert cluster.asked("delete", 1) == 1


def test_a_queue_that_admits_later(cluster: Cluster) -> None:
    cluster.bed.otherwise(*cluster.stage.succeeds())

    def queued(event: StageEvent) -> None:
        if event.type == "log" and "is queued" in event.message:
            admit(cluster)

    cluster.run(QUEUE, on_event=queued)
    assert cluster.ledger == [("a1", "ok")]


def test_a_queue_that_takes_the_place_back_and_gives_it_again(cluster: Cluster) -> None:
    stage = cluster.stage
    cluster.bed.script("words-*", *stage.succeeds(first=1))
    cluster.bed.script("words-*", *steps.BEGIN, stage.opens(), stage.point(0), FOREVER, attempt=1)
    queued = []

    def act(event: StageEvent) -> None:
        if event.type == "log" and "is queued" in event.message:
            queued.append(event)
            cluster.bed.wait(lambda: not cluster.bed.pods(), 5)
            admit(cluster)
        elif event.type == "point" and len(queued) == 1:
            admit(cluster, False)

    outcome = cluster.run(QUEUE, on_event=act)
    assert len(queued) == 2
    assert cluster.ledger == [("a1", "ok"), ("a1.1", "evicted")]
    assert [step for step, _ in outcome.manifest.series["loss"]] == [0, 1, 2]
    assert cluster.bed.journal.count("create", "jobs") == 1
