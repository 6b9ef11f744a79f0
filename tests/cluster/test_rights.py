"""The launcher asks the API server for nothing that the kit's Role does not grant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from codellm_dag.launch import StageFailedError, materialize
from codellm_dag.launch.kubernetes.api import Api
from codellm_dag.launch.kubernetes.launcher import KubernetesLauncher
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.store import Store
from tests.cluster.bed import Bed, steps
from tests.cluster.scripted_stage import ScriptedStage
from tests.k8s.rights import granted
from tests.support.stores import own_cache
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import WORDS

__all__ = ["own_cache"]


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    with Bed(tmp_path / "bed") as bed:
        yield bed


def run(bed: Bed, store: Store, recipe: TinyRecipe, **shape: object) -> None:
    """One stage on the bed, as in a cluster."""
    launcher = KubernetesLauncher(
        Api.connect(str(bed.kubeconfig()), timeout=2, budget=5), message_seconds=0.05, watch_seconds=2
    )
    values = {"namespace": "default", "image": "registry.example/stage:1", "allow_dirty": True, **shape}
    runtime = Runtime(threads=1, workers=1, kubernetes=PodShape.parse(values))
    materialize(store, WORDS, recipe, {}, launcher=launcher, runtime=runtime, infra_retries=0)


def test_two_nodes_that_succeed_and_a_pod_that_fails_need_no_other_rights(bed, tmp_path):
    store = Store(tmp_path / "store")
    bed.script("words-*", *steps.BEGIN, steps.exit(0), index=1)
    bed.script("words-*", *ScriptedStage(store).succeeds(), index=0)
    run(bed, store, TinyRecipe(), nodes=2)
    bed.script("words-*", *steps.BEGIN, steps.log("Traceback: boom"), steps.exit(1))
    with pytest.raises(StageFailedError, match="boom"):
        run(bed, store, TinyRecipe(count=7), infra_retries=0)
    asked = {(row.kind, row.verb) for row in bed.journal.rows()}
    assert {("services", "create"), ("jobs", "create"), ("pods/log", "get")} <= asked
    assert asked <= granted()
