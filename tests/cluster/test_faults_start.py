"""What keeps a pod from starting: every failure with its label, creates, deletes and time to verdict."""

from __future__ import annotations

import pytest

from tests.cluster.bed import steps
from tests.cluster.faults import FOREVER, Cluster, Row, check_row, cluster, short
from tests.support.stores import own_cache

__all__ = ["cluster", "own_cache"]

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
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_failure(row: Row, cluster: Cluster) -> None:
    check_row(row, cluster)
