"""Why: the last decision, and what would happen now."""

from __future__ import annotations

import shutil

import pytest
from toy_life_cycle import STAGES, LifeCycle

from codellm_dag.lineage.errors import LineageError
from codellm_dag.lineage.names import find_ref
from codellm_dag.lineage.why import Explanation, why
from codellm_dag.recipes import Recipe
from codellm_dag.store import Manifest, Ref, Store


def _why(store: Store, name: str, **changes: dict) -> Explanation:
    def recipe_of(ref: Ref, manifest: Manifest) -> Recipe:
        recipe = STAGES[manifest.stage].recipe_class().parse(manifest.identity["recipe"])
        return recipe.with_changes(changes.get(ref.asset, {}))

    return why(store, find_ref(store, name), recipe_of, STAGES)


def test_nothing_changed(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    found = why(store, find_ref(store, "mixture"), stages=STAGES)
    assert found.label == "mixture"
    assert found.last is not None
    assert (found.last.action, found.last.reasons) == ("reused", ["nothing changed"])
    assert found.requests == 2
    assert (found.now.action, found.now.reasons, found.open) == ("reused", ["nothing changed"], False)
    assert [item.asset for item in found.upstream] == ["raw_corpus", "clean_corpus"]


def test_a_changed_field_is_named(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    found = _why(store, "sft_checkpoint", sft_checkpoint={"learning_rate": 0.3})
    assert found.now.action == "computed"
    assert found.now.reasons == ["recipe.learning_rate: 0.1 → 0.3"]
    assert not found.open


def test_what_waits_for_an_input_is_open(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    found = _why(store, "sft_checkpoint[base]", clean_corpus={"min_bytes": 200})
    assert found.open
    assert found.now.reasons == ["input checkpoint: is computed first"]
    assert {item.asset: item.action for item in found.upstream} == {
        "raw_corpus": "reused",
        "clean_corpus": "computed",
        "mixture": "computed",
        "pretrained_checkpoint": "computed",
    }


def test_own_change_below_a_changed_input(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    found = _why(store, "sft_checkpoint", mixture={"heldout_every": 2}, sft_checkpoint={"steps": 3})
    assert found.now.reasons == ["recipe.steps: 10 → 3", "input checkpoint: is computed first"]
    assert not found.open


def test_going_back_is_a_reuse(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    life_cycle.run(sft_checkpoint={"steps": 3})
    found = _why(store, "sft_checkpoint", sft_checkpoint={"steps": 10})
    assert found.now.action == "reused"
    assert "recipe.steps: 3 → 10" in found.now.reasons
    assert any("done before" in reason for reason in found.now.reasons)


def test_a_half_deleted_output(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    (store.local_path(life_cycle.made["mixture"].artifact) / "train.parquet").unlink()
    found = why(store, find_ref(store, "mixture"), stages=STAGES)
    assert found.now.action == "computed"
    assert "train.parquet" in found.now.reasons[0]


def test_a_deleted_manifest(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    shutil.rmtree(store.work_root / "artifacts" / "mixture")
    with pytest.raises(LineageError, match=r"mixture points at .* manifest is gone"):
        why(store, find_ref(store, "mixture"), stages=STAGES)
    with pytest.raises(LineageError, match="the manifest of mixture is gone"):
        why(store, find_ref(store, "sft_checkpoint"), stages=STAGES)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nosuch", "no asset 'nosuch' in .*; there are: clean_corpus, eval_report, mixture"),
        ("raw_corpus[cobol]", r"has no such partition; there are: raw_corpus\[python\]"),
        ("samples", r"has several partitions; there are: samples\[pretrained|microbench\]"),
    ],
)
def test_unknown_assets(store: Store, life_cycle: LifeCycle, name: str, message: str) -> None:
    life_cycle.run()
    with pytest.raises(LineageError, match=message):
        find_ref(store, name)


def test_names_of_an_asset(store: Store, life_cycle: LifeCycle) -> None:
    life_cycle.run()
    for name in ("samples[sft|microbench]", "samples/sft|microbench", " samples/sft|microbench "):
        assert find_ref(store, name).partition == "sft|microbench"
    assert find_ref(store, "raw_corpus").partition == "python"


def test_an_empty_store(store: Store) -> None:
    with pytest.raises(LineageError, match="is empty; `codellm-dag demo` fills it"):
        find_ref(store, "mixture")
