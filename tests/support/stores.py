"""Fixtures for tests that need a store: on a disk, and on a real HTTP server that speaks S3 (moto)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from codellm_dag.store import Artifact, Manifest, Store, digest
from codellm_dag.store.records import now

_SERVER_CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("CODELLM_CACHE", str(cache))
    return cache


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of an S3 server in this process.

    S3's conditional writes are atomic; moto looks and then writes in two steps, so writes take turns here.
    """
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    turn = threading.Lock()
    original = S3Response.put_object

    def put_object(self):
        with turn:
            return original(self)

    S3Response.put_object = put_object
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    S3Response.put_object = original


@pytest.fixture
def s3_url(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """An empty bucket with a prefix, reachable through botocore's own variables."""
    import boto3

    for name, value in _SERVER_CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"bucket-{digest(request.node.nodeid)[:16]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/prefix"


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each kind."""
    if request.param == "disk":
        return Store(tmp_path / "store")
    return Store(request.getfixturevalue("s3_url"))


def draft(text: str, attempt: str, fingerprint: str = "") -> Manifest:
    """A manifest to publish, of a stage ``made`` whose identity is `text`."""
    identity = {"stage": "made", "text": text}
    return Manifest(
        stage="made",
        kind="corpus",
        name="made",
        fingerprint=fingerprint or digest(identity),
        content_digest="",
        attempt=attempt,
        created=now(),
        identity=identity,
        outputs=[],
    )


def publish(store: Store, text: str, files: dict[str, str] | None = None) -> Artifact:
    """Publish `files` as the result of the computation `text`."""
    fingerprint = digest({"stage": "made", "text": text})
    attempt, folder = store.new_attempt("made", fingerprint)
    for path, content in ({"data.txt": text} if files is None else files).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    manifest, _ = store.publish(draft(text, attempt), folder)
    return manifest.artifact
