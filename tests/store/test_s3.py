"""What only a store on S3 has: a cache, a network, credentials and other people's servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from codellm_dag.store import Store, StoreError
from codellm_dag.store.paths import attempt_prefix
from tests.support.stores import publish


def committed(store: Store, artifact, path: str) -> str:
    manifest = store.manifest(artifact)
    return f"{attempt_prefix(manifest.stage, manifest.fingerprint, manifest.attempt)}/{path}"


def test_cache_is_keyed_by_content_and_used_again(s3_url: str, own_cache: Path) -> None:
    store = Store(s3_url)
    one = publish(store, "x", {"a/b.txt": "same", "_volatile/t": "1"})
    two = publish(store, "y", {"a/b.txt": "same", "_volatile/t": "2"})
    folder = store.local_path(one)
    assert folder == own_cache / "artifacts" / one.content_digest
    assert [path.name for path in folder.iterdir()] == ["a"], "volatile files stay in the store"
    store.backend.delete(committed(store, two, "a/b.txt"))
    assert store.local_path(two) == folder, "the same content needs no second download"
    assert [path.name for path in folder.parent.iterdir()] == [one.content_digest]


def test_cut_cache_is_downloaded_again(s3_url: str) -> None:
    store = Store(s3_url)
    artifact = publish(store, "x", {"a": "whole", "b": "other"})
    folder = store.local_path(artifact)
    (folder / "a").chmod(0o644)
    (folder / "a").write_text("cut")
    assert (store.local_path(artifact) / "a").read_text() == "whole"
    (folder / "b").unlink()
    assert (store.local_path(artifact) / "b").read_text() == "other"


def test_download_is_checked(s3_url: str, own_cache: Path) -> None:
    store = Store(s3_url)
    artifact = publish(store, "x", {"a": "whole"})
    store.backend.put(committed(store, artifact, "a"), b"forge")
    with pytest.raises(
        StoreError, match=r"attempts/.*/a has SHA-256 .*, its manifest says .*; run its asset"
    ):
        store.local_path(artifact)
    store.backend.delete(committed(store, artifact, "a"))
    with pytest.raises(StoreError, match="a is missing; run its asset again"):
        store.local_path(artifact)
    assert not (own_cache / "artifacts" / artifact.content_digest).exists()


def test_an_upload_that_lost_a_file_is_not_committed(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(s3_url)
    upload = store.backend.upload
    monkeypatch.setattr(
        store.backend, "upload", lambda folder, prefix, paths: upload(folder, prefix, paths[1:])
    )
    with pytest.raises(StoreError, match=r"output a is missing; nothing was committed"):
        publish(store, "x", {"a": "a", "b": "b"})
    assert list(store.manifests()) == []


def test_missing_bucket(s3_url: str) -> None:
    del s3_url  # only for its server
    store = Store("s3://there-is-none/x")
    for act in (store.check, lambda: store.lookup("made", "0" * 64), lambda: list(store.manifests())):
        with pytest.raises(
            StoreError, match="there is no bucket 'there-is-none'; create it, or correct --store"
        ):
            act()


def test_missing_credentials(s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        Store(s3_url).check()


def test_a_server_that_does_not_answer(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreError, match="does not answer; check AWS_ENDPOINT_URL") as caught:
        Store(s3_url).check()
    assert "test-secret" not in str(caught.value)
    assert "test-key" not in str(caught.value)


def test_a_server_without_conditional_writes_is_refused(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.s3.responses import S3Response

    original = S3Response.put_object

    def forgetful(self):
        self.headers = {
            name: value for name, value in self.headers.items() if name.lower() != "if-none-match"
        }
        return original(self)

    monkeypatch.setattr(S3Response, "put_object", forgetful)
    with pytest.raises(StoreError, match="ignores If-None-Match"):
        Store(s3_url).check()


def test_options_name_the_server(s3_url: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    store = Store(s3_url, {"endpoint_url": s3_endpoint})
    store.check()
