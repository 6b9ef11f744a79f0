"""The commands on a store in S3: the same answers as on a disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_life_cycle import STAGES, LifeCycle, write_sources
from typer.testing import CliRunner

from codellm_dag.cli.app import app
from codellm_dag.launch import InlineLauncher
from codellm_dag.stages import registry
from codellm_dag.store import Store
from tests.support.stores import own_cache, s3_endpoint, s3_url

__all__ = ["own_cache", "s3_endpoint", "s3_url"]


@pytest.fixture
def in_s3(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LifeCycle:
    """A toy life cycle whose store is in S3."""
    monkeypatch.setenv("TOY_SOURCES", str(tmp_path / "sources"))
    monkeypatch.setattr(registry, "STAGES", STAGES)
    monkeypatch.setattr("codellm_dag.lineage.reproduce.LocalLauncher", InlineLauncher)
    monkeypatch.chdir(tmp_path)
    return LifeCycle(Store(s3_url), write_sources(tmp_path / "sources"))


def test_a_number_is_found_traced_reproduced_and_verified(in_s3: LifeCycle, tmp_path: Path) -> None:
    report = in_s3.run()["sft"]
    score = f"{report.fingerprint[:8]}/pass@1"

    def ask(*words: str) -> dict:
        result = CliRunner().invoke(app, [*words, "--store", in_s3.store.url, "--json"])
        assert result.exit_code == 0, result.stdout
        return json.loads(result.stdout)

    assert score in [row["id"] for row in ask("scores")["scores"]]
    files = ask("lineage", score, "--grep", "heapq")["files"]
    assert [(file["path"], file["licence"]) for file in files] == [("heapq.py", "PSF-2.0")]
    assert ask("verify")["whole"]
    assert len(ask("trials")["trials"]) == 9
    assert ask("why", "sft_checkpoint")["now"]["action"] == "reused"
    assert ask("reproduce", score)["equal"]
    kept = ask("reproduce", score, "--into", str(tmp_path / "again"))["kept_in"]
    assert kept == "again"
    assert ask("diff", score, score, "--other-store", kept)["causes"] == []
