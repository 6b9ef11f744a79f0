"""What a stranger does after `make demo`: run it again, read down a number, change one knob, compare."""

from __future__ import annotations

import hashlib
import sysconfig
from pathlib import Path

import pytest

from tests.lifecycle.conftest import Project

pytestmark = pytest.mark.slow

METRICS = {"pass@1", "pass@5", "bits_per_byte/python", "bits_per_byte/rust"}


def test_every_model_has_every_score_with_an_interval(lifecycle: Project) -> None:
    rows = [row for row in lifecycle.json("scores")["scores"] if row["current"]]
    assert {row["model"] for row in rows} == {"pretrained", "sft", "rl"}
    assert {row["benchmark"] for row in rows} == {"humaneval", "microbench", "bits_per_byte"}
    for row in rows:
        assert row["metric"] in METRICS
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
        assert row["infrastructure_errors"] == 0
        assert row["judged_inside"] == 0


def test_second_run_recomputes_nothing_and_says_why(lifecycle: Project) -> None:
    again = lifecycle.json("demo", "--recipe", "tiny")
    assert len(again["assets"]) >= 25
    assert {asset["action"] for asset in again["assets"]} == {"reused"}
    assert all(asset["reason"] for asset in again["assets"])


def test_a_number_leads_down_to_a_named_file_of_the_standard_library(lifecycle: Project) -> None:
    trace = lifecycle.json("lineage", lifecycle.score("rl", "microbench"), "--files")
    stages = {artifact["stage"] for artifact in trace["artifacts"]}
    assert {"raw_corpus", "clean_corpus", "mixture", "tokenizer", "sft_checkpoint", "rl_policy"} <= stages
    files = [(row["path"], row["sha256"]) for row in trace["files"] if row["language"] == "python"]
    assert files
    library = Path(sysconfig.get_paths()["stdlib"])
    for path, digest in files[:20]:
        assert hashlib.sha256((library / path).read_bytes()).hexdigest() == digest


def test_one_changed_learning_rate_is_the_one_cause(lifecycle: Project) -> None:
    before = lifecycle.score("sft", "microbench")
    lifecycle.run("demo", "--recipe", "tiny", "--set", "sft_checkpoint.optimizer.learning_rate=0.01")
    after = lifecycle.score("sft", "microbench")
    assert before != after
    found = lifecycle.json("diff", before, after)
    assert [(c["kind"], c["asset"], c["field"], c["after"]) for c in found["causes"]] == [
        ("recipe", "sft_checkpoint", "optimizer.learning_rate", 0.01)
    ]
    assert found["consequences"]
    assert lifecycle.json("diff", after, after)["causes"] == []


def test_bad_input_is_one_clear_error_before_anything_runs(lifecycle: Project) -> None:
    attempts = len(lifecycle.json("trials")["trials"])
    bad = lifecycle.run("demo", "--recipe", "tiny", "--set", "sft_checkpoint.epochs=-1", expect=2)
    assert "epochs" in bad.stderr
    assert "-1" in bad.stderr
    assert "Traceback" not in bad.stderr
    assert len(lifecycle.json("trials")["trials"]) == attempts
