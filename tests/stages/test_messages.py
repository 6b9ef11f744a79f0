"""Messages on a disk and in a store: read while written, torn, and fed to Dagster."""

from __future__ import annotations

import json
from pathlib import Path

from codellm_dag.stages.messages import (
    FileChannel,
    FileReader,
    StoreReader,
    StoreWriter,
    custom_message,
    open_session,
)
from codellm_dag.store import Store


def payloads(messages) -> list[object]:
    return [m["params"]["payload"] for m in messages if m["method"] == "report_custom_message"]


def test_file_is_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "messages.jsonl"
    reader = FileReader(path)
    assert reader.read() == []
    session = open_session(FileChannel(path))
    session.report_custom_message({"n": 1, "text": "zwei\nZeilen ü"})
    first = reader.read()
    assert [m["method"] for m in first] == ["opened", "report_custom_message"]
    assert payloads(first) == [{"n": 1, "text": "zwei\nZeilen ü"}]
    with path.open("ab") as stream:
        stream.write(b'{"method": "report_custom_message", "par')
    assert reader.read() == [], "half a line is left for the next look"
    with path.open("ab") as stream:
        stream.write(b'ams": {"payload": 2}}\n')
    assert payloads(reader.read()) == [2]
    session.close()
    assert [m["method"] for m in reader.read()] == ["closed"]
    assert len(FileReader(path).read()) == 4, "another reader can begin at the start"


def test_torn_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    path.write_bytes(b'{"torn\n[1]\n{"method": "closed", "params": {}}\n\xff\n')
    assert [m["method"] for m in FileReader(path).read()] == ["closed"]


def test_exception_is_in_the_closing_message(tmp_path: Path) -> None:
    path = tmp_path / "messages.jsonl"
    try:
        with open_session(FileChannel(path)):
            raise ValueError("broken")
    except ValueError:
        pass
    closing = json.loads(path.read_text().splitlines()[-1])
    assert closing["method"] == "closed"
    assert closing["params"]["exception"]["name"] == "ValueError"


def lines(*payloads: object) -> bytes:
    return b"".join(custom_message({"event": payload}) for payload in payloads)


def events(messages) -> list[object]:
    return [payload["event"] for payload in payloads(messages)]  # type: ignore[index]


def test_store_objects_are_read_in_order_and_go_on_after_a_restart(store: Store) -> None:
    reader = StoreReader(store, "messages/x")
    assert reader.read() == []
    first = StoreWriter(store, "messages/x")
    first.write(lines(0, 1))
    first.write(lines(2))
    assert events(reader.read()) == [0, 1, 2]
    assert reader.read() == []
    StoreWriter(store, "messages/x").write(lines("again"))
    assert events(reader.read()) == ["again"]
    assert events(StoreReader(store, "messages/x").read()) == [0, 1, 2, "again"]
    assert store.backend.children("messages/x") == [f"0000000{n}.jsonl" for n in (1, 2, 3)]


def test_two_writers_and_a_lost_answer(store: Store) -> None:
    one, other = StoreWriter(store, "messages/x"), StoreWriter(store, "messages/x")
    one.write(lines("a"))
    other.write(lines("b"))
    one.write(lines("c"))
    assert events(StoreReader(store, "messages/x").read()) == ["a", "b", "c"]
    store.backend.create("messages/x/00000004.jsonl", lines("d"))  # written, but the answer did not come
    one.write(lines("d"))
    one.write(lines("e"))
    assert events(StoreReader(store, "messages/x").read()) == ["a", "b", "c", "d", "e"]
