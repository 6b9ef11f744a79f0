"""Addresses of stores, good and bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from codellm_dag.store import InvalidStoreURLError, Store, StoreError


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = f"file://{tmp_path}/runs"
    for address in ("runs", "./runs", f"{tmp_path}/runs", Path("runs"), expected, expected + "/"):
        store = Store(address)
        assert store.url == expected
        assert store.is_local
    assert not (tmp_path / "runs").exists(), "opening a store creates nothing"
    assert Store("file:///a%20b").url == "file:///a%20b"


def test_s3() -> None:
    store = Store("s3://my-bucket/deep/prefix/")
    assert store.url == "s3://my-bucket/deep/prefix"
    assert not store.is_local
    assert Store("s3://my-bucket").url == "s3://my-bucket"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("http://x/y", "begins with http://; allowed: a folder"),
        ("gs://bucket/x", "begins with gs://"),
        ("file://relative/path", "three slashes"),
        ("s3://", "bucket ''"),
        ("s3://Bad_Name/x", "bucket 'Bad_Name'"),
        ("s3://bucket/x?versionId=1", "'\\?' or '#'"),
    ],
)
def test_bad_addresses(address: str, message: str) -> None:
    with pytest.raises(InvalidStoreURLError, match=message):
        Store(address)


def test_credentials_in_the_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidStoreURLError, match="holds credentials") as caught:
        Store("s3://AKIAEXAMPLE:hush/hush@bucket/x")
    with pytest.raises(InvalidStoreURLError, match="credentials") as other:
        Store("s3://AKIAEXAMPLE:topsecret@bucket/x")
    for text in (str(caught.value), str(other.value)):
        assert "hush" not in text
        assert "topsecret" not in text
        assert "AKIA" not in text


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written: .*; give a folder you may write to"):
        Store(tmp_path / "file" / "store").check()
