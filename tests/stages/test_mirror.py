"""The copy of resume_dir in a store: whole or absent, whoever is killed when."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codellm_dag.stages.mirror import Index, Mirror, Superseded
from codellm_dag.store import Store

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "resume/words/f1"


def machine(store: Store, folder: Path) -> tuple[Mirror, Path, list[list[str]]]:
    """A mirror with an empty resume_dir, and what it told."""
    resume_dir = folder / "resume"
    resume_dir.mkdir(parents=True)
    told: list[list[str]] = []
    return Mirror(store.backend, PREFIX, resume_dir, told.append), resume_dir, told


def save(resume_dir: Path, number: int) -> None:
    """Leave checkpoint `number` as a stage does, and remove the one before."""
    part = resume_dir / "new.partial"
    (part / "deep").mkdir(parents=True)
    for name in ("a.bin", "deep/b.bin", "deep/c.bin"):
        (part / name).write_bytes(f"{number}\n".encode() * 5000)
    part.rename(resume_dir / f"checkpoint-{number}")
    old = resume_dir / f"checkpoint-{number - 1}"
    if old.exists():
        gone = old.rename(resume_dir / "old.partial")
        shutil.rmtree(gone)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def index(store: Store) -> Index:
    return Index.model_validate_json(store.backend.read(f"{PREFIX}/index.json"))


def test_complete_entries_reach_another_machine_and_only_they(store: Store, tmp_path: Path) -> None:
    one, resume_dir, told = machine(store, tmp_path / "one")
    assert one.fetch() == []
    one._copy()
    assert told == []
    save(resume_dir, 7)
    (resume_dir / "step-000003.pt").write_bytes(b"a file")
    (resume_dir / ".step-000004.pt.9.partial").write_bytes(b"half")
    (resume_dir / "new.partial").mkdir()
    one._copy()
    assert told == [["checkpoint-7", "step-000003.pt"]]
    one._copy()
    assert len(told) == 1, "nothing is copied twice"
    other, elsewhere, _ = machine(store, tmp_path / "other")
    assert other.fetch() == [
        "fetched checkpoint-7 from the store: 3 files, 0.0 MB",
        "fetched step-000003.pt from the store: 1 files, 0.0 MB",
    ]
    wanted = {name: data for name, data in contents(resume_dir).items() if "partial" not in name}
    assert contents(elsewhere) == wanted
    other._copy()
    assert index(store).entries["checkpoint-7"].upload == "1-1", "what was fetched is not copied back"


def test_the_older_copy_goes_once_the_newer_is_whole(store: Store, tmp_path: Path) -> None:
    one, resume_dir, told = machine(store, tmp_path / "one")
    one.fetch()
    for number in (1, 2):
        save(resume_dir, number)
        one._copy()
    assert told == [["checkpoint-1"], ["checkpoint-2"]]
    assert store.backend.children(PREFIX) == ["1-2", "index.json"]
    assert sorted(store.backend.sizes(f"{PREFIX}/1-2")) == [
        "checkpoint-2/a.bin",
        "checkpoint-2/deep/b.bin",
        "checkpoint-2/deep/c.bin",
    ]
    assert list((tmp_path / "one").iterdir()) == [resume_dir], "no hard links are left behind"


def test_an_attempt_that_was_thought_dead_cannot_spoil_the_copy(store: Store, tmp_path: Path) -> None:
    old, old_dir, told = machine(store, tmp_path / "old")
    old.fetch()
    save(old_dir, 1)
    old._copy()
    new, new_dir, _ = machine(store, tmp_path / "new")
    new.fetch()
    save(old_dir, 2)
    with pytest.raises(Superseded):
        old._copy()
    assert told == [["checkpoint-1"]]
    assert list(index(store).entries) == ["checkpoint-1"]
    assert index(store).generation == 2
    save(new_dir, 2)
    new._copy()
    assert store.backend.children(PREFIX) == ["2-1", "index.json"], "what the old one left is gone"
    for mirror, superseded in ((old, True), (new, False)):
        mirror.start()
        mirror.finish(1.0, keep=False)
        assert mirror.superseded is superseded


@pytest.mark.parametrize("harm", ["missing", "changed"])
def test_a_damaged_copy_is_not_used_and_is_made_again(store: Store, tmp_path: Path, harm: str) -> None:
    one, resume_dir, _ = machine(store, tmp_path / "one")
    one.fetch()
    save(resume_dir, 1)
    one._copy()
    place = f"{PREFIX}/1-1/checkpoint-1/deep/c.bin"
    store.backend.delete(place)
    if harm == "changed":
        store.backend.put(place, b"other bytes")
    other, elsewhere, told = machine(store, tmp_path / "other")
    lines = other.fetch()
    assert len(lines) == 1
    assert "checkpoint-1 is " in lines[0]
    assert "not used" in lines[0]
    assert contents(elsewhere) == {}
    save(elsewhere, 1)
    other._copy()
    assert told == [["checkpoint-1"]]
    third, there, _ = machine(store, tmp_path / "third")
    third.fetch()
    assert contents(there) == contents(elsewhere)


def test_an_entry_that_the_stage_removes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    one, resume_dir, told = machine(store, tmp_path / "one")
    one.fetch()
    save(resume_dir, 1)
    upload = store.backend.upload

    def slow(folder: Path, prefix: str, paths: list[str]) -> None:
        if not (resume_dir / "checkpoint-2").exists():
            save(resume_dir, 2)  # removes checkpoint-1 in the middle of its copy
        upload(folder, prefix, paths)

    monkeypatch.setattr(store.backend, "upload", slow)
    one._copy()
    assert told == [["checkpoint-1"]], "a copy once begun is whole"
    one._copy()
    assert told[-1] == ["checkpoint-2"]
    save(resume_dir, 3)
    monkeypatch.setattr(store.backend, "upload", upload)
    one.start()
    one.finish(1.0)
    assert told[-1] == ["checkpoint-3"]


CHILD = """
import sys, time
from pathlib import Path
from codellm_dag.stages import mirror
from codellm_dag.store import Store
from tests.stages import test_mirror as here

mirror._LOOK = 0.005
store, folder = Store(sys.argv[1]), Path(sys.argv[2])
copy, resume_dir, told = here.machine(store, folder)
copy.fetch()
copy.start()
names = [int(path.name.split("-")[1]) for path in resume_dir.iterdir()]
copy._told = lambda _: print("copied", flush=True)
for number in range(max(names, default=0) + 1, 10**6):
    here.save(resume_dir, number)
    time.sleep(0.02)
"""


def test_kills_at_random_moments_leave_whole_copies(store: Store, tmp_path: Path) -> None:
    chance = random.Random(5)
    reached = [0]
    for kill in range(8 if store.is_local else 4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, store.url, str(tmp_path / f"child-{kill}")],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"copied\n"
        time.sleep(chance.uniform(0.0, 0.3))
        child.send_signal(signal.SIGKILL)
        child.wait()
        reader, folder, _ = machine(store, tmp_path / f"reader-{kill}")
        lines = reader.fetch(take_over=False)
        assert all(line.startswith("fetched") for line in lines), lines
        found = contents(folder)
        numbers = {data.split(b"\n")[0] for data in found.values()}
        assert len(found) in (0, 3, 6)
        for name, data in found.items():
            number = name.split("/")[0].removeprefix("checkpoint-")
            assert data == f"{number}\n".encode() * 5000
        reached.append(max((int(number) for number in numbers), default=0))
    assert reached == sorted(set(reached)), "no kill loses what had been saved"
