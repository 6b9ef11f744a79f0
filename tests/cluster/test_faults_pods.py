"""What is done to running pods: memory, eviction, pre-emption, lost nodes and connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.bed import steps
from tests.cluster.bed.kubelet.worker import Step, Worker
from tests.cluster.faults import FOREVER, Cluster, Row, check_row, cluster, short
from tests.support.stores import own_cache

__all__ = ["cluster", "own_cache"]

NODE = {"nodes": 2}
OOM_LINE = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79 GiB"
NCCL_LINE = "[rank0]: NCCL watchdog thread terminated with exception: NCCL error: remote process exited"


def on_kubelet(act: Callable[[Worker], Any]) -> Step:
    def step(worker: Worker) -> None:
        act(worker)
        worker.sleep(None)

    return steps.call(step)


ROWS = [
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


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_failure(row: Row, cluster: Cluster) -> None:
    check_row(row, cluster)
