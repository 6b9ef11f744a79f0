"""Making a number again: equal, not equal, and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from toy_life_cycle import STAGES, LifeCycle

from codellm_dag.launch import InlineLauncher
from codellm_dag.lineage.errors import DifferentSoftwareError, LineageError
from codellm_dag.lineage.graph import Node, ancestry
from codellm_dag.lineage.reproduce import Reproduction, machine_notes, reproduce
from codellm_dag.store import Artifact, Output, Store
from codellm_dag.store.fingerprint import content_digest


def _reproduce(root: Node, target: Store, **options: bool) -> Reproduction:
    return reproduce(root, target, launcher=InlineLauncher(), stages=STAGES, **options)


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return Store(tmp_path / "again")


def test_equal(store: Store, life_cycle: LifeCycle, empty: Store) -> None:
    report = life_cycle.run(sft_checkpoint={"steps": 7})["sft"]
    result = _reproduce(ancestry(store, report), empty)
    assert result.equal
    assert result.first_difference is None
    assert [step.label for step in result.steps] == [
        "raw_corpus[python]",
        "clean_corpus[python]",
        "mixture",
        "pretrained_checkpoint",
        "sft_checkpoint[base]",
        "samples[sft|microbench]",
        "eval_report[sft|microbench]",
    ]
    # the very same computation, not only the same bytes
    assert empty.artifact(report.fingerprint).content_digest == report.content_digest


def test_not_equal_names_the_first_artifact_and_its_files(
    store: Store, life_cycle: LifeCycle, empty: Store
) -> None:
    """A manifest that claims other bytes for the checkpoint than its stage gives."""
    report = life_cycle.run()["sft"]
    checkpoint = life_cycle.made["pretrained_checkpoint"].artifact
    _tamper(store, checkpoint, "model.json")
    result = _reproduce(ancestry(store, report), empty)
    assert result.first_difference is not None
    assert result.first_difference.label == "pretrained_checkpoint"
    assert result.first_difference.files_changed == ("model.json",)
    assert result.equal  # what is below read the real bytes, so the number itself is the same
    assert [step.label for step in result.steps if not step.equal] == ["pretrained_checkpoint"]


def test_not_equal_at_the_number(store: Store, life_cycle: LifeCycle, empty: Store) -> None:
    report = life_cycle.run()["sft"]
    _tamper(store, report, "scores.json")
    result = _reproduce(ancestry(store, store.artifact(report.fingerprint)), empty)
    assert not result.equal
    assert result.first_difference is result.steps[-1]


def _tamper(store: Store, artifact: Artifact, file: str) -> None:
    """Change the recorded digest of a file, and the content digest with it."""
    path = store.work_root / "artifacts" / artifact.stage / artifact.fingerprint / "manifest.json"
    values = json.loads(path.read_bytes())
    for output in values["outputs"]:
        if output["path"] == file:
            output["sha256"] = "0" * 64
    outputs = [Output.model_validate(output) for output in values["outputs"]]
    values["content_digest"] = content_digest((o.path, o.sha256) for o in outputs if not o.volatile)
    path.chmod(0o644)
    path.write_text(json.dumps(values))
    _follow(store, artifact, values["content_digest"])


def _follow(store: Store, artifact: Artifact, digest: str) -> None:
    """Let the manifests that read the artifact name its new content digest."""
    for path in (store.work_root / "artifacts").glob("*/*/manifest.json"):
        values = json.loads(path.read_bytes())
        for given in values["inputs"].values():
            if given["fingerprint"] == artifact.fingerprint:
                given["content_digest"] = digest
        path.chmod(0o644)
        path.write_text(json.dumps(values))


def test_another_code_is_refused_by_name(store: Store, life_cycle: LifeCycle, empty: Store) -> None:
    root = ancestry(store, life_cycle.run()["pretrained"])
    old = _with(root, "mixture", code={"toy_life_stages.mixture": "0" * 64})
    with pytest.raises(DifferentSoftwareError, match="--allow-different") as caught:
        _reproduce(old, empty)
    assert "code: toy_life_stages.mixture changed (mixture)" in caught.value.differences
    assert list(empty.manifests()) == []
    allowed = _reproduce(old, empty, allow_different=True)
    assert allowed.equal
    assert allowed.differences == caught.value.differences


def test_another_package_version_is_refused_by_name(
    store: Store, life_cycle: LifeCycle, empty: Store
) -> None:
    root = ancestry(store, life_cycle.run()["pretrained"])
    with pytest.raises(DifferentSoftwareError) as caught:
        _reproduce(_with(root, "raw_corpus", packages={"pyarrow": "1.0"}), empty)
    assert caught.value.differences[0].startswith("package pyarrow: 1.0 → ")
    assert caught.value.differences[0].endswith(" (raw_corpus[python])")


def test_a_stage_that_is_gone_is_refused(store: Store, life_cycle: LifeCycle, empty: Store) -> None:
    root = ancestry(store, life_cycle.run()["pretrained"])
    stages = {name: stage for name, stage in STAGES.items() if name != "mixture"}
    with pytest.raises(DifferentSoftwareError) as caught:
        reproduce(root, empty, launcher=InlineLauncher(), stages=stages)
    assert caught.value.differences == ["stage mixture is not in this code any more (mixture)"]


def _with(node: Node, stage: str, **changes: dict[str, str]) -> Node:
    """A copy of a lineage in which one stage was fingerprinted with other code or packages."""
    manifest = node.manifest
    assert manifest is not None
    if node.artifact.stage == stage:
        identity = {
            **manifest.identity,
            **({"packages": changes["packages"]} if "packages" in changes else {}),
        }
        manifest = manifest.model_copy(
            update={
                "fingerprint": "0" * 64,
                "identity": identity,
                "code": {**manifest.code, **changes.get("code", {})},
            }
        )
    return Node(node.artifact, manifest, {k: _with(v, stage, **changes) for k, v in node.inputs.items()})


def test_the_target_must_be_empty(store: Store, life_cycle: LifeCycle) -> None:
    root = ancestry(store, life_cycle.run()["pretrained"])
    with pytest.raises(LineageError, match="is not empty; name another place with --into"):
        _reproduce(root, store)


def test_a_missing_manifest_is_said(store: Store, life_cycle: LifeCycle, empty: Store) -> None:
    report = life_cycle.run()["sft"]
    gone = life_cycle.made["mixture"].artifact
    shutil.rmtree(store.work_root / "artifacts" / "mixture" / gone.fingerprint)
    with pytest.raises(LineageError, match=r"the manifest of mixture .* cannot be made again"):
        _reproduce(ancestry(store, report), empty)


def test_machine_notes(store: Store, life_cycle: LifeCycle) -> None:
    root = ancestry(store, life_cycle.run()["sft"])
    manifest = root.manifest
    assert manifest is not None
    here = {"cpu_model": manifest.environment.cpu_model, "threads": manifest.environment.threads}
    assert machine_notes(root, here) == []
    (note,) = machine_notes(root, {**here, "cpu_model": "Abacus"})
    assert note == f"cpu_model: {manifest.environment.cpu_model} then, Abacus here"
