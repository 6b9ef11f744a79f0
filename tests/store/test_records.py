"""Refs, decisions and the ledger."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from codellm_dag.store import Attempt, Decision, Store
from codellm_dag.store.paths import file_name
from codellm_dag.store.records import new_id
from tests.support.stores import publish

START = datetime(2026, 11, 4, 10, 15, tzinfo=UTC)


def row(attempt: str, label="ok", minutes: int = 0, **more) -> Attempt:
    values = {"stage": "made", "asset": "made", "fingerprint": "f" * 64, **more}
    start = START + timedelta(minutes=minutes)
    return Attempt(attempt=attempt, label=label, start=start, end=start + timedelta(seconds=90), **values)


def test_refs(store: Store) -> None:
    one, two = publish(store, "1"), publish(store, "2")
    assert store.refs.get("clean_corpus", "python") is None
    assert store.refs.artifact("clean_corpus") is None
    first = store.refs.set("clean_corpus", "python", one)
    assert store.refs.set("clean_corpus", "python", one) == first, "an unchanged ref is not written again"
    store.refs.set("clean_corpus", "java", one)
    store.refs.set("clean_corpus", None, one)
    store.refs.set("tokenizer", None, two)
    store.refs.set("clean_corpus", "python", two)
    assert store.refs.artifact("clean_corpus", "python") == two
    assert store.refs.artifact("clean_corpus") == one
    assert [(ref.asset, ref.partition, ref.artifact.fingerprint) for ref in store.refs.all()] == [
        ("clean_corpus", None, one.fingerprint),
        ("clean_corpus", "java", one.fingerprint),
        ("clean_corpus", "python", two.fingerprint),
        ("tokenizer", None, two.fingerprint),
    ]


ODD = [
    "a|b",
    "a/b",
    "..",
    ".",
    "@",
    "",
    "learning_rate=0.1,layers=2",
    "ü",
    "A",
    "a",
    "x" * 500,
    "x" * 499 + "y",
]


def test_odd_partition_keys_do_not_clash(store: Store) -> None:
    artifacts = {key: publish(store, f"key {key}") for key in ODD}
    for key, artifact in artifacts.items():
        store.refs.set("asset", key, artifact)
    store.refs.set("asset", None, artifacts["a"])
    assert {ref.partition: ref.artifact for ref in store.refs.all()} == {**artifacts, None: artifacts["a"]}


def test_file_names_are_safe_and_distinct() -> None:
    names = [file_name(key) for key in ODD]
    assert len(set(names)) == len(ODD)
    for name in names:
        assert "/" not in name
        assert name not in ("", ".", "..", "@")
        assert len(name.encode()) < 230


def test_decisions_keep_their_order(store: Store) -> None:
    for number in range(5):
        store.decisions.add(
            Decision(
                action="computed",
                asset="made",
                partition="p",
                stage="made",
                fingerprint=str(number),
                reasons=[f"recipe.n: {number} → {number + 1}"],
                at=START,
            )
        )
    assert [decision.fingerprint for decision in store.decisions.of("made", "p")] == list("01234")
    assert [decision.fingerprint for decision in store.decisions.of("made", "p", last=2)] == ["3", "4"]
    assert store.decisions.of("made") == []


def test_ledger_keeps_failures_too(store: Store) -> None:
    store.ledger.add(row("b", "oom", 1, error="CUDA out of memory", recipe={"lr": 0.5}))
    store.ledger.add(row("a", "ok", 2))
    store.ledger.add(row("c", "killed", 0, stage="other", asset="x"))
    assert [(attempt.attempt, attempt.label) for attempt in store.ledger.rows()] == [
        ("c", "killed"),
        ("b", "oom"),
        ("a", "ok"),
    ]
    assert [attempt.attempt for attempt in store.ledger.rows("made")] == ["b", "a"]
    assert store.ledger.of("made", "f" * 64)[0].recipe == {"lr": 0.5}
    assert store.ledger.of("made", "0" * 64) == []
    assert store.ledger.has("made", "f" * 64, "a")
    assert not store.ledger.has("made", "f" * 64, "z")


def test_a_row_is_written_once(store: Store) -> None:
    store.ledger.add(row("a", "ok"))
    store.ledger.add(row("a", "killed"))
    assert [attempt.label for attempt in store.ledger] == ["ok"]


def test_unknown_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="label"):
        row("a", "fine")


def test_many_writers_lose_no_row(store: Store) -> None:
    def write(index: int) -> None:
        store.ledger.add(row(f"{index:02d}"))

    threads = [threading.Thread(target=write, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.ledger.rows()) == 12


def test_ids_sort_by_time_and_never_repeat() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [value[:22] for value in ids] == sorted(value[:22] for value in ids)
