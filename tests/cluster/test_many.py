"""Many groups in one process: one list and one watch for each kind, whoever follows how many."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from codellm_dag.launch import materialize
from codellm_dag.launch.kubernetes.api import Api
from codellm_dag.launch.kubernetes.launcher import KubernetesLauncher
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.store import Store
from tests.cluster.bed import Bed, steps
from tests.cluster.scripted_stage import ScriptedStage
from tests.support.stores import own_cache
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import WORDS

__all__ = ["own_cache"]

MANY = 24


def test_many_groups_share_their_watches(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    stage = ScriptedStage(store)
    shape = PodShape(namespace="default", image="registry.example/stage:1", allow_dirty=True)
    end = (stage.stores(), stage.closes(), steps.exit(0))
    with Bed(tmp_path / "bed") as bed:
        bed.otherwise(*steps.BEGIN, stage.opens(), stage.point(0), steps.sleep(2), *end)
        api = Api.connect(str(bed.kubeconfig()))

        def one(number: int) -> str:
            launcher = KubernetesLauncher(api, message_seconds=0.2)
            recipe = TinyRecipe(text=f"word {number}")
            runtime = Runtime(threads=1, kubernetes=shape)
            outcome = materialize(store, WORDS, recipe, {}, launcher=launcher, runtime=runtime)
            return outcome.manifest.attempt

        with ThreadPoolExecutor(MANY) as pool:
            assert list(pool.map(one, range(MANY))) == ["a1"] * MANY
        calls = bed.journal.counts()
        assert bed.problems == []
    for kind in ("jobs", "pods", "events"):
        assert (calls["list", kind], calls["watch", kind]) == (1, 1), kind
    assert calls["create", "jobs"] == MANY
    looks = "one whether anything is left, one more where the watch was behind the create"
    assert calls["get", "jobs"] <= 2 * MANY, looks
    assert set(calls) == {
        (verb, kind) for kind in ("jobs", "pods", "events") for verb in ("list", "watch")
    } | {
        ("create", "jobs"),
        ("get", "jobs"),
    }
    for thread in threading.enumerate():
        if thread.name.startswith("watch-"):
            thread.join(5)
            assert not thread.is_alive(), "watches end with the last who follows"
