"""Why something is computed or reused, field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from codellm_dag.launch import InlineLauncher, decide, materialize
from codellm_dag.launch.decision import _field_changes
from codellm_dag.store import Store
from codellm_dag.store.paths import attempt_prefix
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import JOIN, WORDS, tiny


def get(
    store: Store,
    stage=WORDS,
    inputs=None,
    *,
    asset: str | None = None,
    partition: str | None = None,
    **recipe: Any,
):
    return materialize(
        store,
        stage,
        TinyRecipe(**recipe),
        inputs or {},
        asset=asset,
        partition=partition,
        launcher=InlineLauncher(),
    )


def reasons(
    store: Store, stage=WORDS, inputs=None, asset=None, partition=None, **recipe: Any
) -> tuple[str, list[str]]:
    decision = decide(store, stage, TinyRecipe(**recipe), inputs or {}, asset=asset, partition=partition)
    return decision.action, decision.reasons


def test_story(store: Store) -> None:
    assert reasons(store) == ("computed", ["first time"])
    first = get(store)
    assert (first.decision.action, first.decision.reasons) == ("computed", ["first time"])
    assert reasons(store) == ("reused", ["nothing changed"])
    second = get(store, count=5, text="new")
    assert second.decision.reasons == ["recipe.count: 3 → 5", "recipe.text: word → new"]
    change = second.decision.changes[0]
    assert (change.field, change.before, change.after) == ("recipe.count", 3, 5)
    assert second.decision.previous == first.artifact.fingerprint
    back = get(store)
    assert back.decision.action == "reused"
    assert back.decision.reasons == [
        "the same computation was done before, as words",
        "recipe.count: 5 → 3",
        "recipe.text: new → word",
    ]
    assert back.artifact == first.artifact
    assert store.manifest(second.artifact).decision == second.decision
    kept = [(decision.action, decision.fingerprint) for decision in store.decisions.of("words")]
    assert kept == [
        ("computed", first.artifact.fingerprint),
        ("computed", second.artifact.fingerprint),
        ("reused", first.artifact.fingerprint),
    ]


def test_partitions_are_compared_with_their_own_past(store: Store) -> None:
    get(store, partition="python")
    assert reasons(store, partition="java", count=5) == ("computed", ["first time"])
    assert reasons(store, partition="java") == (
        "reused",
        ["the same computation was done before, as words/python"],
    )
    assert reasons(store, partition="python", count=4) == ("computed", ["recipe.count: 3 → 4"])


def test_inputs(store: Store) -> None:
    one, two = get(store).artifact, get(store, count=4).artifact
    get(store, JOIN, {"words": one, "extra/a": one})
    assert reasons(store, JOIN, {"words": two, "extra/b": one}) == (
        "computed",
        ["input extra/a: removed", "input extra/b: added", "input words: content changed"],
    )
    assert reasons(store, JOIN, {"words": None, "extra/a": one}) == (
        "computed",
        ["input words: is computed first"],
    )


def test_damage_is_the_reason(store: Store) -> None:
    artifact = get(store).artifact
    manifest = store.manifest(artifact)
    store.backend.delete(f"{attempt_prefix('words', artifact.fingerprint, manifest.attempt)}/words.txt")
    assert reasons(store) == ("computed", ["output words.txt is missing"])
    again = get(store)
    assert again.decision.action == "computed"
    assert again.decision.reasons == ["output words.txt is missing"]
    assert again.artifact == artifact
    assert reasons(store) == ("reused", ["nothing changed"])
    store.backend.delete(f"artifacts/words/{artifact.fingerprint}/manifest.json")
    assert reasons(store) == ("computed", ["never computed"])


def test_code_and_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "made_up_stage"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "helper.py").write_text("FACTOR = 1\n")
    (package / "stage.py").write_text(
        "from . import helper\n"
        "def run(recipe, inputs, out, report):\n    (out / 'x').write_text(str(helper.FACTOR))\n"
    )
    store = Store(tmp_path / "store")
    stage = tiny("made_up", "words_stage", packages=("pydantic",))
    object.__setattr__(stage, "module", "made_up_stage.stage")
    get(store, stage)
    (package / "helper.py").write_text("FACTOR = 20\n")
    assert reasons(store, stage) == ("computed", ["code: made_up_stage.helper changed"])
    (package / "helper.py").write_text("FACTOR = 1  # as it was\n")
    assert reasons(store, stage) == ("reused", ["nothing changed"])
    (package / "stage.py").write_text(
        (package / "stage.py").read_text().replace(" helper", " other as helper")
    )
    (package / "other.py").write_text("FACTOR = 1\n")
    assert reasons(store, stage)[1] == [
        "code: made_up_stage.helper no longer used",
        "code: made_up_stage.other added",
        "code: made_up_stage.stage changed",
    ]
    (package / "stage.py").write_text(
        (package / "stage.py").read_text().replace(" other as helper", " helper")
    )
    monkeypatch.setattr("codellm_dag.launch.identity._version", lambda *_: "99.0")
    decided = reasons(store, stage)
    assert decided[0] == "computed"
    assert len(decided[1]) == 1
    assert decided[1][0].startswith("package pydantic: 2.")
    assert decided[1][0].endswith(" → 99.0")


def test_decide_writes_nothing(store: Store) -> None:
    get(store)
    before = store.backend.sizes("")
    reasons(store, count=5)
    reasons(store)
    assert store.backend.sizes("") == before


@pytest.mark.parametrize(
    ("old", "new", "texts"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["r.a.b: 1 → 2"]),
        ({"a": 1}, {"b": 1}, ["r.a: 1 → –", "r.b: – → 1"]),
        ({"a": 1}, {"a": 1.0}, ["r.a: 1 → 1.0"]),
        ({"a": True}, {"a": 1}, ["r.a: True → 1"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["r.a: [1, 2] → [1, 3]"]),
        ({"a": {"b": 1}}, {"a": None}, ["r.a: {'b': 1} → None"]),
        ({"a": "x" * 99}, {"a": "y"}, [f"r.a: {'x' * 59}… → y"]),
        ({"a": 1}, {"a": 1}, []),
    ],
)
def test_differences_of_recipes(old: Any, new: Any, texts: list[str]) -> None:
    assert [change.text for change in _field_changes("r", old, new)] == texts
