"""The store's promises, the same on a disk and on S3."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from codellm_dag.store import Hit, InvalidOutputError, Miss, Store, StoreError, content_digest, digest
from codellm_dag.store.manifest import to_json
from codellm_dag.store.paths import attempt_prefix, manifest_path
from tests.support.stores import draft, publish

A = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # SHA-256 of b"a"
B = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"  # SHA-256 of b"b"


def place(store: Store, artifact, path: str) -> str:
    manifest = store.manifest(artifact)
    return f"{attempt_prefix(manifest.stage, manifest.fingerprint, manifest.attempt)}/{path}"


def test_check_accepts_a_working_store_and_leaves_nothing(store: Store) -> None:
    store.check()
    assert store.backend.sizes("") == {} or not list(store.manifests())
    assert store.backend.sizes(".probe") == {}


def test_published_files_are_found_with_their_digests(store: Store) -> None:
    artifact = publish(store, "x", {"b.txt": "b", "sub/a.txt": "a", "_volatile/log": "any"})
    found = store.lookup("made", artifact.fingerprint)
    assert isinstance(found, Hit)
    assert found.artifact == artifact
    seen = [(output.path, output.bytes, output.sha256, output.volatile) for output in found.manifest.outputs]
    assert seen[1:] == [("b.txt", 1, B, False), ("sub/a.txt", 1, A, False)]
    assert seen[0][0] == "_volatile/log"
    assert seen[0][3]
    assert artifact.content_digest == content_digest({"b.txt": B, "sub/a.txt": A})
    assert found.manifest.bytes == 5
    folder = store.local_path(artifact)
    assert (folder / "sub/a.txt").read_text() == "a"
    assert store.verify(artifact) == []


def test_volatile_files_are_not_part_of_the_content(store: Store) -> None:
    one = publish(store, "x", {"a.txt": "a", "_volatile/time": "1 s"})
    two = publish(store, "y", {"a.txt": "a", "_volatile/time": "2 s"})
    assert one.content_digest == two.content_digest
    assert one.fingerprint != two.fingerprint
    store.backend.delete(place(store, one, "_volatile/time"))
    assert isinstance(store.lookup("made", one.fingerprint), Hit)
    assert [(bad.path, bad.problem) for bad in store.verify(one)] == [("_volatile/time", "is missing")]


def test_manifest_is_the_same_after_the_trip(store: Store) -> None:
    identity = {"f": 1.0, "i": 1, "z": -0.0, "big": 1e22, "u": "é", "n": None, "l": [0.1, []]}
    attempt, folder = store.new_attempt("made", digest(identity))
    (folder / "a").write_text("a")
    series = {"loss": [(0, 2.5), (1, None)]}
    metrics = {"loss": 0.5, "steps": 3, "name": "x", "ok": True}
    new = draft("", attempt, digest(identity)).model_copy(
        update={"identity": identity, "series": series, "metrics": metrics, "tables": {"t": [{"a": None}]}}
    )
    committed, ours = store.publish(new, folder)
    assert ours
    back = store.manifest(committed.fingerprint)
    assert back == committed
    assert digest(back.identity) == back.fingerprint
    assert {name: type(value) for name, value in back.metrics.items()} == {
        "loss": float,
        "steps": int,
        "name": str,
        "ok": bool,
    }
    data = store.backend.read(manifest_path("made", back.fingerprint))
    assert to_json(back) == data
    assert json.loads(data)["series"] == {"loss": [[0, 2.5], [1, None]]}


def test_never_computed(store: Store) -> None:
    assert store.lookup("made", "0" * 64) == Miss("never computed")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda s, p: s.backend.delete(p), "output sub/data.txt is missing"),
        (lambda s, p: s.backend.put(p, b"text"), "output sub/data.txt has 4 bytes, its manifest says 5"),
    ],
    ids=["deleted", "cut"],
)
def test_damaged_output_is_a_miss_and_is_repaired(store: Store, damage, reason: str) -> None:
    artifact = publish(store, "x", {"sub/data.txt": "whole", "other.txt": "a"})
    old = store.manifest(artifact)
    path = place(store, artifact, "sub/data.txt")
    if store.is_local:
        (Path(store.url.removeprefix("file://")) / path).chmod(0o644)
    damage(store, path)
    found = store.lookup("made", artifact.fingerprint)
    assert isinstance(found, Miss)
    assert (found.reason, found.damaged) == (reason, True)
    assert publish(store, "x", {"sub/data.txt": "whole", "other.txt": "a"}) == artifact
    assert isinstance(store.lookup("made", artifact.fingerprint), Hit)
    folder = f"artifacts/made/{artifact.fingerprint}"
    assert store.backend.children(folder) == ["attempts", "manifest.0.damaged", "manifest.json"]
    assert store.backend.read(f"{folder}/manifest.0.damaged") == to_json(old)
    assert store.attempts("made", artifact.fingerprint) == [store.manifest(artifact).attempt]


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b'{"schema_version": 99}', b'{"schema_version": 1}'])
def test_unreadable_manifest_is_a_miss_and_is_repaired(store: Store, torn: bytes) -> None:
    artifact = publish(store, "x")
    store.backend.put(manifest_path("made", artifact.fingerprint), torn)
    found = store.lookup("made", artifact.fingerprint)
    assert isinstance(found, Miss)
    assert found.damaged
    assert found.reason.startswith("manifest.json cannot be read: ")
    assert list(store.manifests()) == []
    publish(store, "x")
    assert isinstance(store.lookup("made", artifact.fingerprint), Hit)


def test_second_commit_gets_the_first_and_leaves_no_files(store: Store) -> None:
    first = publish(store, "x", {"a": "first"})
    second = publish(store, "x", {"a": "second"})
    assert second == first
    assert (store.local_path(second) / "a").read_text() == "first"
    assert len(store.attempts("made", first.fingerprint)) == 1


def test_verify_names_each_bad_file(store: Store) -> None:
    artifact = publish(store, "x", {"a": "aaaa", "b": "bbbb", "c": "cccc"})
    for name, data in (("a", b"AAAA"), ("b", b"b")):
        store.backend.put(place(store, artifact, name), data)
    store.backend.delete(place(store, artifact, "c"))
    assert [(bad.path, bad.problem.split(" SHA")[0]) for bad in store.verify(artifact)] == [
        ("a", "has"),
        ("b", "has 1 bytes, its manifest says 4"),
        ("c", "is missing"),
    ]


def test_verify_notices_a_forged_manifest(store: Store) -> None:
    artifact = publish(store, "x")
    path = manifest_path("made", artifact.fingerprint)
    values = json.loads(store.backend.read(path))
    values["identity"]["text"] = "y"
    values["outputs"][0]["path"] = "renamed.txt"
    store.backend.put(path, json.dumps(values).encode())
    problems = [bad.problem for bad in store.verify(store.manifest(artifact.fingerprint))]
    assert problems == [
        "its identity does not hash to its fingerprint",
        "its outputs do not hash to its content digest",
        "is missing",
    ]


def test_artifact_by_the_beginning_of_its_fingerprint(store: Store) -> None:
    one, two = publish(store, "1"), publish(store, "2")
    assert store.artifact(one.fingerprint[:8]) == one
    assert store.artifact(two.fingerprint) == two
    assert {manifest.fingerprint for manifest in store.manifests()} == {one.fingerprint, two.fingerprint}
    assert list(store.manifests("other")) == []
    for asked, message in (
        ("0000", "no artifact"),
        ("xyz", "not a fingerprint"),
        ("ab", "4 to 64"),
        ("../../..", "not a fingerprint"),
    ):
        with pytest.raises(StoreError, match=message):
            store.artifact(asked)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "wrote no result"),
        ({"_volatile/log": "x"}, "wrote no result"),
        ({"model.pt": "x"}, "model.pt is a pickle"),
        ({"sub/Data.PKL": "x"}, "is a pickle"),
        ({"training_args.bin": "x"}, "is a pickle"),
        ({"a": "a", "_volatile/x.pickle": "x"}, "is a pickle"),
    ],
)
def test_refused_outputs(store: Store, files: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidOutputError, match=message):
        publish(store, "x", files)
    assert isinstance(store.lookup("made", digest({"stage": "made", "text": "x"})), Miss)


def test_links_are_refused(store: Store, tmp_path: Path) -> None:
    attempt, folder = store.new_attempt("made", "f" * 64)
    (folder / "a").write_text("a")
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidOutputError, match="link is a link or special file"):
        store.publish(draft("x", attempt, "f" * 64), folder)


def test_torch_files_are_known_by_content(store: Store) -> None:
    torch = pytest.importorskip("torch")
    attempt, folder = store.new_attempt("made", "f" * 64)
    torch.save({"a": 1}, folder / "weights.bin")
    with pytest.raises(InvalidOutputError, match="is a pickle, and reading a pickle runs code"):
        store.publish(draft("x", attempt, "f" * 64), folder)
    torch.save({"a": 1}, folder / "weights.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(InvalidOutputError, match="is a pickle, and reading a pickle runs code"):
        store.publish(draft("x", attempt, "f" * 64), folder)
    (folder / "weights.bin").write_bytes(b"\x80\x04" + bytes(100))  # token ids may begin like this
    store.publish(draft("x", attempt, "f" * 64), folder)


def test_committed_files_on_a_disk_are_read_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = publish(store, "x")
    mode = (store.local_path(artifact) / "data.txt").stat().st_mode
    assert stat.S_IMODE(mode) == 0o444


def test_odd_file_names_survive(store: Store) -> None:
    names = ["a b.txt", "ü.txt", "e\u0301.txt", "[x]*?.txt", "%2F.txt", "#1&+.txt", "deep/er/than/that.txt"]
    artifact = publish(store, "x", dict.fromkeys(names, "a"))
    assert isinstance(store.lookup("made", artifact.fingerprint), Hit)
    folder = store.local_path(artifact)
    assert all((folder / name).read_text() == "a" for name in names)
    assert store.verify(artifact) == []
    publish(store, "x", {"a": "b"})  # the loser's files are removed, odd names and all
    assert len(store.attempts("made", artifact.fingerprint)) == 1
