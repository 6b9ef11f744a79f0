"""What stages do wrong themselves: no word, no result, no end; each with its label and time to verdict."""

from __future__ import annotations

import pytest

from tests.cluster.bed import steps
from tests.cluster.faults import FOREVER, Cluster, Row, check_row, cluster, short
from tests.support.stores import own_cache

__all__ = ["cluster", "own_cache"]

ROWS = [
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
    *(
        Row(
            f"a stage that says {label}",
            lambda s, label=label, words=words: [
                ("a1", [*steps.BEGIN, s.opens(), s.fails(label, words), s.closes(), steps.exit(1)])
            ],
            label,
            words,
            {"infra_retries": 2},
        )
        for label, words in {
            "diverged": "loss is nan",
            "invalid_recipe": "tokens = 3 is less than one step",
            "error": "ZeroDivisionError: division by zero",
        }.items()
    ),
    Row(
        "an exit code without a word",
        lambda _: [("a1", [*steps.BEGIN, steps.exit(3)])],
        "infra",
        "ended with exit code 3 without a closing message",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_failure(row: Row, cluster: Cluster) -> None:
    check_row(row, cluster)
