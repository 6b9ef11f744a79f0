"""Differences of two numbers: exactly the causes, and their consequences."""

from __future__ import annotations

import json
from dataclasses import replace

from toy_life_cycle import LifeCycle

from codellm_dag.lineage.causes import Cause, differences
from codellm_dag.lineage.diff import Difference, compare
from codellm_dag.lineage.graph import Node, ancestry
from codellm_dag.store import Artifact, Store


def _compare(store: Store, a: Artifact, b: Artifact) -> Difference:
    return compare(ancestry(store, a), ancestry(store, b))


def _short(causes: list[Cause]) -> list[tuple]:
    return [(cause.kind, cause.asset, cause.field, cause.before, cause.after) for cause in causes]


def test_a_number_and_itself(store: Store, life_cycle: LifeCycle) -> None:
    report = life_cycle.run()["sft"]
    found = _compare(store, report, report)
    assert (found.causes, found.consequences, found.context) == ([], [], {})
    assert found.shared == 7


def test_one_changed_learning_rate_is_one_cause(store: Store, life_cycle: LifeCycle) -> None:
    a = life_cycle.run()["sft"]
    b = life_cycle.run(pretrained_checkpoint={"learning_rate": 0.2})["sft"]
    found = _compare(store, a, b)
    assert _short(found.causes) == [("recipe", "pretrained_checkpoint", "learning_rate", 0.1, 0.2)]
    assert found.causes[0].effect
    assert [item.path for item in found.consequences] == [
        "",
        "samples",
        "samples/checkpoint",
        "samples/checkpoint/checkpoint",
    ]
    assert found.consequences[0].files_changed == ("scores.json",)
    assert found.consequences[-1].files_changed == ("model.json",)  # training.json is as before
    assert [change.name for change in found.consequences[-1].metrics] == ["loss"]
    assert found.shared == 3


def test_two_changed_fields_are_two_causes(store: Store, life_cycle: LifeCycle) -> None:
    a = life_cycle.run()["sft"]
    b = life_cycle.run(pretrained_checkpoint={"steps": 12}, sft_checkpoint={"learning_rate": 0.3})["sft"]
    assert sorted(_short(_compare(store, a, b).causes)) == [
        ("recipe", "pretrained_checkpoint", "steps", 10, 12),
        ("recipe", "sft_checkpoint", "learning_rate", 0.1, 0.3),
    ]


def test_changed_source_content_is_one_cause_and_names_the_corpus(
    store: Store, life_cycle: LifeCycle
) -> None:
    a = life_cycle.run()["sft"]
    (life_cycle.folder / "heapq.py").write_text("import sys\n")
    found = _compare(store, a, life_cycle.run()["sft"])
    assert [(c.kind, c.field, c.where) for c in found.causes] == [
        ("source", "toy-stdlib", ("raw_corpus[python]",))
    ]
    assert [pair[0].label for pair in found.corpora] == ["raw_corpus[python]"]


def test_a_chosen_field_of_a_source_is_the_cause_not_its_digest(store: Store, life_cycle: LifeCycle) -> None:
    a = life_cycle.run()["sft"]
    b = life_cycle.run(raw_corpus={"licence": "MIT", "content_digest": "other"})["sft"]
    assert _short(_compare(store, a, b).causes) == [
        ("recipe", "raw_corpus", "sources.0.licence", "PSF-2.0", "MIT")
    ]


def test_a_change_that_comes_out_equal_is_without_effect(store: Store, life_cycle: LifeCycle) -> None:
    a = life_cycle.run()["sft"]
    b = life_cycle.run(clean_corpus={"min_bytes": 2}, sft_checkpoint={"steps": 9})["sft"]
    found = _compare(store, a, b)
    assert {cause.field: cause.effect for cause in found.causes} == {"steps": True}
    # Reached by content: the number was made from the first run's corpus, so its recipe is not even below it.
    assert "min_bytes" not in json.dumps([cause.field for cause in found.causes])


def test_effect_is_stopped_by_an_equal_artifact(store: Store, life_cycle: LifeCycle) -> None:
    a = life_cycle.run(samples={"decimals": 0})["pretrained"]
    rounded = life_cycle.run(samples={"decimals": 0}, pretrained_checkpoint={"learning_rate": 0.11})[
        "pretrained"
    ]
    assert rounded.fingerprint == a.fingerprint  # both round to 1: the report is reused, as its content is
    other = ancestry(store, a)
    samples = ancestry(store, life_cycle.made["samples/pretrained|microbench"].artifact)
    assert samples.artifact.fingerprint != other.inputs["samples"].artifact.fingerprint
    b = Node(_renamed(other.artifact), other.manifest, {"samples": samples})
    found = compare(other, b)
    assert [(cause.field, cause.effect) for cause in found.causes] == [("learning_rate", False)]


def _renamed(artifact: Artifact) -> Artifact:
    return artifact.model_copy(update={"fingerprint": "0" * 64})


def test_models_of_different_length_are_compared_below_the_added_stage(
    store: Store, life_cycle: LifeCycle
) -> None:
    reports = life_cycle.run()
    later = life_cycle.run(pretrained_checkpoint={"learning_rate": 0.2})
    found = _compare(store, reports["pretrained"], later["sft"])
    assert _short(found.causes) == [
        ("stage", "sft_checkpoint", "sft_checkpoint", None, "sft_checkpoint[base]"),
        ("recipe", "pretrained_checkpoint", "learning_rate", 0.1, 0.2),
    ]
    back = _compare(store, later["sft"], reports["pretrained"])
    assert _short(back.causes)[0][3:] == ("sft_checkpoint[base]", None)


def test_code_packages_and_machines(store: Store, life_cycle: LifeCycle) -> None:
    root = ancestry(store, life_cycle.run()["pretrained"])
    other = _changed(root)
    found = compare(root, other)
    assert {(cause.kind, cause.field) for cause in found.causes} == {
        ("code", "toy_life_stages.raw_corpus"),
        ("package", "pyarrow"),
        ("machine", "cpu_model"),
    }
    package = next(cause for cause in found.causes if cause.kind == "package")
    assert package.where == ("raw_corpus[python]",)
    assert found.context["git_commit"][1] == "feedfacefeedface"


def _changed(node: Node) -> Node:
    """A copy of a lineage whose corpus was read by other code on another machine."""
    inputs = {slot: _changed(below) for slot, below in node.inputs.items()}
    artifact = node.artifact.model_copy(
        update={
            "fingerprint": node.artifact.fingerprint[::-1],
            "content_digest": node.artifact.content_digest[::-1],
        }
    )
    manifest = node.manifest
    assert manifest is not None
    if node.artifact.stage == "raw_corpus":
        manifest = manifest.model_copy(
            update={
                "code": {**manifest.code, "toy_life_stages.raw_corpus": "f" * 64},
                "identity": {**manifest.identity, "packages": {"pyarrow": "99.0"}},
                "environment": manifest.environment.model_copy(
                    update={"cpu_model": "Abacus", "git_commit": "feedfacefeedface"}
                ),
            }
        )
    return replace(node, artifact=artifact, manifest=manifest, inputs=inputs)


def test_the_same_computation_with_two_results_is_said(store: Store, life_cycle: LifeCycle) -> None:
    root = ancestry(store, life_cycle.run()["pretrained"])
    artifact = root.artifact.model_copy(update={"content_digest": "0" * 64})
    found = compare(root, replace(root, artifact=artifact))
    assert [(cause.kind, cause.field) for cause in found.causes] == [("unknown", "result")]
    assert "depends on something that its recipe does not hold" in found.causes[0].details[0]


def test_a_deleted_manifest_is_an_unknown_cause(store: Store, life_cycle: LifeCycle) -> None:
    root = ancestry(store, life_cycle.run()["pretrained"])
    artifact = root.artifact.model_copy(update={"content_digest": "0" * 64, "fingerprint": "1" * 64})
    found = compare(root, Node(artifact, None, {}))
    assert [(c.kind, c.field, c.before, c.after) for c in found.causes] == [
        ("unknown", "manifest", "kept", "deleted")
    ]


def test_differences_of_json() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": [1], "e": 1, "f": True}
    new = {"a": {"b": 2, "c": [1, 3]}, "d": [1, 2], "e": 1.0, "f": True, "g": None}
    assert list(differences(old, new)) == [
        ("a.b", 1, 2),
        ("a.c.1", 2, 3),
        ("d", [1], [1, 2]),
        ("e", 1, 1.0),
        ("g", "–", None),
    ]
