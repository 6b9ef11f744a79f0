"""The same graph with its store on an S3 server, and a number of it made again in an empty store."""

from __future__ import annotations

import pytest

from tests.lifecycle.conftest import Project
from tests.support.stores import s3_endpoint

__all__ = ["s3_endpoint"]

pytestmark = pytest.mark.slow


def test_life_cycle_on_s3_and_reproduction(
    s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    variables = {
        "AWS_ACCESS_KEY_ID": "test-key",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_endpoint,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="lifecycle")
    project = Project(tmp_path_factory.mktemp("s3"), "s3://lifecycle/store", variables)
    project.run("demo", "--recipe", "tiny")
    assert not (project.folder / "store").exists()
    assert project.json("verify")["whole"]
    again = project.json("demo", "--recipe", "tiny")
    assert {asset["action"] for asset in again["assets"]} == {"reused"}

    made = project.json("reproduce", project.score("pretrained", "microbench"))
    assert made["equal"]
    assert made["first_difference"] is None
    assert {artifact["stage"] for artifact in made["artifacts"]} >= {"raw_corpus", "pretrained_checkpoint"}
