"""Messages on their way from a file to a store: order, heartbeats, a store that fails, what comes last."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from codellm_dag.stages import relay
from codellm_dag.stages.messages import FileChannel, StoreReader, StoreWriter, open_session
from codellm_dag.stages.relay import Relay
from codellm_dag.store import Store, StoreError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_LOOK", 0.01)


def payloads(store: Store) -> list[dict]:
    messages = StoreReader(store, "messages/x").read()
    return [m["params"]["payload"] for m in messages if m["method"] == "report_custom_message"]


def methods(store: Store) -> list[str]:
    return [message["method"] for message in StoreReader(store, "messages/x").read()]


def until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_heartbeat_tells_life_from_progress(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    carrier = Relay(tmp_path / "messages.jsonl", StoreWriter(store, "messages/x"), heartbeat=0.1)
    begun = time.time()
    carrier.start()
    until(lambda: len(payloads(store)) >= 3)
    beats = payloads(store)
    assert {beat["event"] for beat in beats} == {"heartbeat"}
    assert [beat["at"] for beat in beats] == sorted(beat["at"] for beat in beats)
    assert begun <= beats[0]["advanced"] == beats[2]["advanced"] <= beats[0]["at"], "nothing was said yet"
    assert beats[2]["at"] - beats[0]["at"] >= 0.2
    session = open_session(FileChannel(tmp_path / "messages.jsonl"))
    session.report_custom_message({"event": "progress"})
    until(lambda: payloads(store)[-1].get("advanced", 0) > beats[2]["advanced"])
    assert [p for p in payloads(store) if p["event"] == "progress"] == [{"event": "progress"}]
    carrier.finish(1.0)


def test_the_end_is_held_back_until_everything_else_is_in_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    carrier = Relay(tmp_path / "messages.jsonl", StoreWriter(store, "messages/x"), heartbeat=0.1)
    carrier.start()
    session = open_session(FileChannel(tmp_path / "messages.jsonl"))
    session.log.info('{"event": "failed"} is only said here')
    session.report_custom_message({"event": "failed", "label": "killed", "error": "x"})
    session.close()
    until(lambda: "log" in methods(store))
    beats = len(payloads(store))
    until(lambda: len(payloads(store)) > beats + 2)
    assert "closed" not in methods(store)
    assert {payload["event"] for payload in payloads(store)} == {"heartbeat"}
    carrier.say(event="saved", at=1.0, entries=["checkpoint-1"])
    carrier.finish(1.0)
    assert methods(store)[-1] == "closed"
    assert [p["event"] for p in payloads(store) if p["event"] != "heartbeat"] == ["saved", "failed"]


def test_a_store_that_fails_for_a_while_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    create, calls = store.backend.create, [0]

    def fails_often(path: str, data: bytes) -> bool:
        calls[0] += 1
        if calls[0] % 4 == 1:
            raise StoreError("cannot write: 503")
        done = create(path, data)
        if calls[0] % 4 == 3:
            raise StoreError("the connection broke after the write")
        return done

    monkeypatch.setattr(store.backend, "create", fails_often)
    carrier = Relay(tmp_path / "messages.jsonl", StoreWriter(store, "messages/x"), heartbeat=0.02)
    carrier.start()
    session = open_session(FileChannel(tmp_path / "messages.jsonl"))
    for number in range(30):
        session.report_custom_message({"event": number})
        time.sleep(0.01)
    session.close()
    carrier.finish(20.0)
    assert [p["event"] for p in payloads(store) if p["event"] != "heartbeat"] == list(range(30))
    assert methods(store)[-1] == "closed"
    assert calls[0] > 8


def test_a_store_that_is_gone_is_an_error_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")

    def gone(*_: object) -> bool:
        raise StoreError("gone")

    monkeypatch.setattr(store.backend, "create", gone)
    carrier = Relay(tmp_path / "messages.jsonl", StoreWriter(store, "messages/x"))
    carrier.start()
    open_session(FileChannel(tmp_path / "messages.jsonl")).close()
    with pytest.raises(StoreError, match="gone"):
        carrier.finish(0.1)
