"""The JSON of every command is a contract: these keys, these types. Adding a key is fine; the rest is not."""

from __future__ import annotations

from typing import Any

from toy_life_cycle import LifeCycle

from tests.cli.conftest import Cli

SCORE = {
    "id": str,
    "fingerprint": str,
    "asset": str,
    "partition": str,
    "benchmark": str,
    "metric": str,
    "model": str,
    "trial": str,
    "value": float,
    "ci_low": float,
    "ci_high": float,
    "confidence": float,
    "estimator": str,
    "n": int,
    "samples_per_problem": int,
    "judged_inside": float,
    "infrastructure_errors": int,
    "higher_is_better": bool,
    "created": str,
    "current": bool,
    "updated": str,
    "computed_as": str,
}
HOURS = {"model": float, "evaluation": float, "data": float, "total": float, "incomplete": bool}
DECISION = {
    "action": str,
    "asset": str,
    "partition": (str, type(None)),
    "stage": str,
    "fingerprint": str,
    "previous": (str, type(None)),
    "reasons": [str],
    "changes": list,
    "inputs": dict,
    "at": str,
}


def check(value: Any, shape: Any, where: str = "$") -> None:
    """Assert that a value has a shape: a type, a mapping of keys, or a list of one shape."""
    if isinstance(shape, dict):
        assert isinstance(value, dict), f"{where} is no object"
        missing = shape.keys() - value.keys()
        assert not missing, f"{where} lacks {missing}"
        for key, inner in shape.items():
            check(value[key], inner, f"{where}.{key}")
    elif isinstance(shape, list):
        assert isinstance(value, list), f"{where} is no list"
        assert value, f"{where} is empty, so its contract is not tested"
        for index, item in enumerate(value):
            check(item, shape[0], f"{where}[{index}]")
    else:
        assert isinstance(value, shape), f"{where} is {value!r}"


def test_scores(cli: Cli, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    answer = cli("scores", "--json")
    assert (answer.code, answer.err) == (0, "")
    check(
        answer.json,
        {"schema_version": int, "store": str, "scores": [{**SCORE, "device_hours": HOURS}]},
    )
    assert answer.json["schema_version"] == 1
    assert len(answer.json["scores"]) == 4


def test_lineage(cli: Cli, life_cycle: LifeCycle) -> None:
    report = life_cycle.run()["sft"]
    answer = cli("lineage", f"{report.fingerprint[:8]}/pass@1", "--files", "--json").json
    check(
        answer,
        {
            "schema_version": int,
            "store": str,
            "scores": [SCORE],
            "device_hours": HOURS,
            "root": str,
            "artifacts": [
                {
                    "asset": str,
                    "partition": (str, type(None)),
                    "stage": str,
                    "kind": str,
                    "fingerprint": str,
                    "content_digest": str,
                    "inputs": dict,
                    "deleted": bool,
                    "recipe": dict,
                    "code_digest": str,
                    "code": dict,
                    "packages": dict,
                    "external": dict,
                    "environment": {"python": str, "packages": dict, "cpu_model": str, "devices": [str]},
                    "metrics": dict,
                    "outputs": [{"path": str, "bytes": int, "sha256": str, "volatile": bool}],
                    "created": str,
                    "device_seconds": float,
                }
            ],
            "files": [
                {
                    "language": str,
                    "source": str,
                    "path": str,
                    "licence": str,
                    "bytes": int,
                    "sha256": str,
                    "fate": str,
                }
            ],
        },
    )
    by_fingerprint = {item["fingerprint"]: item for item in answer["artifacts"]}
    assert answer["root"] == report.fingerprint
    for item in answer["artifacts"]:  # the list is closed, and inputs come before what was made of them
        assert set(item["inputs"].values()) <= by_fingerprint.keys()
    raw = answer["artifacts"][0]
    assert raw["asset"] == "raw_corpus"
    source = {"language": str, "source": str, "licence": str, "documents": int, "bytes": int}
    check(raw["sources"], [source])


def test_diff(cli: Cli, life_cycle: LifeCycle) -> None:
    old = life_cycle.run()["sft"]
    (life_cycle.folder / "heapq.py").write_text("import sys\n")
    new = life_cycle.run(pretrained_checkpoint={"learning_rate": 0.2})["sft"]
    answer = cli("diff", old.fingerprint[:8], new.fingerprint[:8], "--json").json
    check(
        answer,
        {
            "schema_version": int,
            "store": str,
            "other_store": str,
            "first": [SCORE],
            "second": [SCORE],
            "causes": [
                {
                    "kind": str,
                    "asset": str,
                    "field": str,
                    "before": object,
                    "after": object,
                    "where": [str],
                    "effect": bool,
                    "details": list,
                }
            ],
            "consequences": [
                {
                    "path": str,
                    "before": str,
                    "after": str,
                    "content_before": str,
                    "content_after": str,
                    "files_changed": [str],
                    "metrics": list,
                }
            ],
            "files": [{"corpus": str, "added": list, "removed": list, "changed": [str]}],
            "context": dict,
            "shared_artifacts": int,
        },
    )
    assert {(cause["kind"], cause["field"]) for cause in answer["causes"]} == {
        ("recipe", "learning_rate"),
        ("source", "toy-stdlib"),
    }
    assert answer["files"][0]["changed"] == ["toy-stdlib: heapq.py"]
    loss = next(item for item in answer["consequences"] if item["after"] == "pretrained_checkpoint")
    check(loss["metrics"], [{"name": str, "before": float, "after": float}])


def test_reproduce(cli: Cli, life_cycle: LifeCycle) -> None:
    report = life_cycle.run()["sft"]
    answer = cli("reproduce", report.fingerprint[:8], "--json")
    assert answer.code == 0
    check(
        answer.json,
        {
            "schema_version": int,
            "store": str,
            "equal": bool,
            "first_difference": (str, type(None)),
            "artifacts": [
                {
                    "asset": str,
                    "stage": str,
                    "equal": bool,
                    "expected": str,
                    "found": str,
                    "files_changed": list,
                    "seconds": float,
                }
            ],
            "scores": [SCORE],
            "reproduced": [SCORE],
            "allowed_differences": list,
            "kept_in": (str, type(None)),
        },
    )
    assert answer.json["equal"] is True
    assert answer.json["kept_in"] is None


def test_why(cli: Cli, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    answer = cli("why", "sft_checkpoint", "--json").json
    check(
        answer,
        {
            "schema_version": int,
            "store": str,
            "asset": str,
            "fingerprint": str,
            "content_digest": str,
            "computed_at": str,
            "requests": int,
            "last": DECISION,
            "recipe": str,
            "now": DECISION,
            "now_open": bool,
            "upstream": [DECISION],
        },
    )


def test_report(cli: Cli, life_cycle: LifeCycle) -> None:
    made = life_cycle.run()["sft"]
    answer = cli("report", "eval_report[sft|microbench]", "--json")
    assert (answer.code, answer.err) == (0, "")
    shape = {
        "schema_version": int,
        "store": str,
        "asset": str,
        "partition": (str, type(None)),
        "stage": str,
        "kind": str,
        "fingerprint": str,
        "content_digest": str,
        "created": str,
        "metrics": dict,
        "tables": dict,
        "report": (dict, type(None)),
    }
    check(answer.json, shape)
    (score,) = {row["value"] for row in answer.json["tables"]["scores"] if row["metric"] == "pass@1"}
    assert answer.json["fingerprint"] == made.fingerprint
    assert answer.json["metrics"] == {"pass_at_1": score}
    assert answer.json["report"] is None
    samples = cli("report", "samples[sft|microbench]", "--json").json
    check(samples, shape)
    assert (samples["tables"], samples["report"]) == ({}, {"samples": 10})


def test_trials(cli: Cli, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    check(
        cli("trials", "--json").json,
        {
            "schema_version": int,
            "store": str,
            "trials": [
                {
                    "attempt": str,
                    "stage": str,
                    "asset": str,
                    "partition": (str, type(None)),
                    "trial": (str, type(None)),
                    "fingerprint": str,
                    "label": str,
                    "error": (str, type(None)),
                    "start": str,
                    "end": str,
                    "seconds": float,
                    "hosts": list,
                    "devices": [str],
                    "device_seconds": float,
                    "cpu_seconds": (float, type(None)),
                    "peak_memory_bytes": (int, type(None)),
                    "recipe": dict,
                }
            ],
        },
    )


def test_verify(cli: Cli, life_cycle: LifeCycle) -> None:
    path = life_cycle.store.local_path(life_cycle.run()["sft"]) / "scores.json"
    artifact = {
        "label": str,
        "stage": str,
        "fingerprint": str,
        "files": int,
        "bytes": int,
        "whole": bool,
        "problems": list,
    }
    shape = {"schema_version": int, "store": str, "whole": bool, "artifacts": [artifact]}
    whole = cli("verify", "--json")
    check(whole.json, shape)
    assert (whole.code, whole.json["whole"]) == (0, True)
    path.unlink()
    damaged = cli("verify", "--json")
    check(damaged.json, shape)
    assert (damaged.code, damaged.json["whole"]) == (1, False)
    (bad,) = [item for item in damaged.json["artifacts"] if not item["whole"]]
    check(bad["problems"], [{"path": str, "problem": str}])


def test_errors(cli: Cli, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    answer = cli("lineage", "00000000/pass@1", "--json")
    assert answer.code == 2
    assert answer.err == ""
    check(answer.json, {"schema_version": int, "error": {"kind": str, "message": str, "details": list}})
    assert answer.json["error"]["kind"] == "UnknownScoreError"
