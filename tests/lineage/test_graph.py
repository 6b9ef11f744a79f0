"""The graph below an artifact: who is made from what, each artifact once."""

from __future__ import annotations

import shutil

from toy_life_cycle import LifeCycle

from codellm_dag.lineage.cost import device_hours
from codellm_dag.lineage.graph import ancestry, label, nodes, walk
from codellm_dag.store import Store

_SFT_ORDER = [
    "raw_corpus[python]",
    "clean_corpus[python]",
    "mixture",
    "pretrained_checkpoint",
    "sft_checkpoint[base]",
    "samples[sft|microbench]",
    "eval_report[sft|microbench]",
]


def test_label() -> None:
    assert label("mixture", None) == "mixture"
    assert label("samples", "sft|microbench") == "samples[sft|microbench]"


def test_nodes_inputs_first(store: Store, life_cycle: LifeCycle) -> None:
    root = ancestry(store, life_cycle.run()["sft"])
    assert [node.label for node in nodes(root)] == _SFT_ORDER


def test_walk_gives_slots_from_the_root(store: Store, life_cycle: LifeCycle) -> None:
    root = ancestry(store, life_cycle.run()["pretrained"])
    paths = {node.label: "/".join(path) for path, node, _ in walk(root)}
    assert paths["raw_corpus[python]"] == "samples/checkpoint/corpus/corpus/python/corpus"


def test_recipes_are_what_was_hashed(store: Store, life_cycle: LifeCycle) -> None:
    root = ancestry(store, life_cycle.run(sft_checkpoint={"steps": 7})["sft"])
    recipes = {node.label: node.recipe for node in nodes(root)}
    assert recipes["sft_checkpoint[base]"] == {"learning_rate": 0.1, "steps": 7}


def test_follows_what_was_read_then_not_what_the_name_means_now(store: Store, life_cycle: LifeCycle) -> None:
    old = life_cycle.run()["sft"]
    life_cycle.run(pretrained_checkpoint={"learning_rate": 0.2})
    checkpoint = next(n for n in nodes(ancestry(store, old)) if n.label == "pretrained_checkpoint")
    assert checkpoint.recipe["learning_rate"] == 0.1


def test_a_deleted_manifest_is_a_node_without_one(store: Store, life_cycle: LifeCycle) -> None:
    report = life_cycle.run()["sft"]
    mixture = life_cycle.made["mixture"].artifact
    shutil.rmtree(store.work_root / "artifacts" / "mixture" / mixture.fingerprint)
    found = {node.label: node for node in nodes(ancestry(store, report))}
    assert found["mixture"].manifest is None
    assert found["mixture"].recipe == {}
    assert "clean_corpus[python]" not in found
    assert device_hours(ancestry(store, report)).incomplete


def test_device_hours_are_split_and_counted_once(store: Store, life_cycle: LifeCycle) -> None:
    report = life_cycle.run()["sft"]
    hours = device_hours(ancestry(store, report))
    seconds = {name: _seconds(outcome) for name, outcome in life_cycle.made.items()}
    trained = seconds["pretrained_checkpoint"] + seconds["sft_checkpoint/base"]
    judged = seconds["samples/sft|microbench"] + seconds["eval_report/sft|microbench"]
    data = seconds["raw_corpus/python"] + seconds["clean_corpus/python"] + seconds["mixture"]
    assert abs(hours.model * 3600 - trained) < 1e-9
    assert abs(hours.evaluation * 3600 - judged) < 1e-9
    assert abs(hours.data * 3600 - data) < 1e-9
    assert abs(hours.total * 3600 - (trained + judged + data)) < 1e-9
    assert not hours.incomplete


def _seconds(outcome) -> float:
    attempt = outcome.manifest.cost[0]
    return (attempt.end - attempt.start).total_seconds()
