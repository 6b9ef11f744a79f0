"""The reaper: what it removes, and what it must not."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from codellm_dag.automation import reaper
from codellm_dag.cli.app import app
from codellm_dag.launch import InlineLauncher, StageEvent, identify, materialize
from codellm_dag.launch.kubernetes import reaper as reaping
from codellm_dag.launch.kubernetes.api import Api
from codellm_dag.launch.kubernetes.launcher import KubernetesLauncher
from codellm_dag.recipes.pods import PodShape
from codellm_dag.recipes.runtime import Runtime
from codellm_dag.store import Store
from resources import build_resources
from tests.cluster.bed import Bed, steps
from tests.cluster.scripted_stage import ScriptedStage
from tests.support.stores import own_cache
from tests.support.tiny_recipes import TinyRecipe
from tests.support.tiny_stages import WORDS

__all__ = ["own_cache"]

NOW = timedelta(0)
RECIPE = TinyRecipe()
GROUP = f"words-{identify(WORDS, RECIPE, {}).fingerprint[:12]}-a1"


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    with Bed(tmp_path / "bed") as bed:
        monkeypatch.setenv("KUBECONFIG", str(bed.kubeconfig()))
        monkeypatch.delenv("DAGSTER_HOME", raising=False)
        yield bed
        assert bed.problems == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def api(bed: Bed) -> Api:
    return Api.connect(str(bed.kubeconfig()))


def leave_behind(bed: Bed, store: Store, api: Api, run: str = "") -> None:
    """A group that runs for ever, whose orchestrator is no more."""
    stage = ScriptedStage(store)
    bed.script("words-*", *steps.BEGIN, stage.opens(), stage.point(0), steps.sleep(None))
    launcher = KubernetesLauncher(api, owner=run, cancel_requested=lambda: False, message_seconds=0.05)
    shape = PodShape(namespace="default", image="registry.example/stage:1", allow_dirty=True, grace_seconds=1)

    def interrupt(event: StageEvent) -> None:
        if event.type == "point":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        materialize(
            store,
            WORDS,
            RECIPE,
            {},
            launcher=launcher,
            runtime=Runtime(threads=1, kubernetes=shape),
            on_event=interrupt,
        )


def find(api: Api, store: Store, *, live: bool = True, young: timedelta = NOW) -> list[str]:
    found = reaping.find_leftovers(api, store, "default", lambda _: live, young=young)
    return [f"{item.name}: {item.reason}" for item in found]


def test_what_may_be_attached_to_is_left_alone(bed: Bed, store: Store, api: Api, tmp_path: Path) -> None:
    leave_behind(bed, store, api, run="run-1")
    assert find(api, store) == []
    assert find(api, store, live=False, young=timedelta(minutes=10)) == [], "it is young"
    assert find(api, Store(tmp_path / "other"), live=False) == [], "it is another store's"


def test_a_group_of_a_run_that_has_ended(bed: Bed, store: Store, api: Api) -> None:
    leave_behind(bed, store, api, run="run-12345678")
    assert find(api, store, live=False) == [f"{GROUP}: its run run-1234 has ended"]
    (leftover,) = reaping.find_leftovers(api, store, "default", lambda _: False, young=NOW)
    assert reaping.remove(api, store, leftover)
    bed.wait(lambda: not bed.objects("jobs") and not bed.pods())
    (row,) = store.ledger.rows()
    assert (row.attempt, row.label) == ("a1", "killed")
    assert row.error == "removed by the reaper: its run run-1234 has ended"
    assert not reaping.remove(api, store, leftover), "it is gone"


def test_a_group_that_another_run_attached_to_is_that_runs(bed: Bed, store: Store, api: Api) -> None:
    leave_behind(bed, store, api, run="run-1")
    leave_behind(bed, store, api, run="run-2")
    found = reaping.find_leftovers(api, store, "default", lambda run: run == "run-2", young=NOW)
    assert found == []
    assert find(api, store, live=False) == [f"{GROUP}: its run run-2 has ended"]


def test_a_group_of_no_run_stays_until_its_attempt_is_closed(bed: Bed, store: Store, api: Api) -> None:
    leave_behind(bed, store, api)
    assert find(api, store, live=False) == []
    materialize(store, WORDS, RECIPE, {}, launcher=InlineLauncher())
    assert find(api, store) == [f"{GROUP}: its computation is committed"]


def test_the_command(bed: Bed, store: Store, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaping.find_leftovers, "__kwdefaults__", {"young": NOW})
    words = ["reap", "--namespace", "default", "--store", store.url, "--json"]
    nothing = CliRunner().invoke(app, words)
    assert (nothing.exit_code, json.loads(nothing.output)["groups"]) == (0, [])
    leave_behind(bed, store, api)
    materialize(store, WORDS, RECIPE, {}, launcher=InlineLauncher())
    dry = CliRunner().invoke(app, words)
    (group,) = json.loads(dry.output)["groups"]
    assert dry.exit_code == 1
    assert (group["name"], group["kind"], group["deleted"]) == (GROUP, "Job", False)
    assert bed.objects("jobs")
    wet = CliRunner().invoke(app, [*words, "--delete"])
    assert wet.exit_code == 0
    assert json.loads(wet.output)["groups"][0]["deleted"] is True
    bed.wait(lambda: not bed.objects("jobs"))


def test_the_command_without_a_cluster(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    ended = CliRunner().invoke(app, ["reap", "--namespace", "default", "--store", store.url])
    assert ended.exit_code == 2
    assert "set KUBECONFIG" in ended.output


def test_the_sensor_asks_dagster_which_runs_live(
    bed: Bed, store: Store, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaping.find_leftovers, "__kwdefaults__", {"young": NOW})
    monkeypatch.setenv("CODELLM_IMAGE", "registry.example/stage:1")
    pods = store.work_root / "pods.yaml"
    store.work_root.mkdir(parents=True, exist_ok=True)
    pods.write_text("{extends: cpu, namespace: default}")
    monkeypatch.setenv("CODELLM_PODS", str(pods))

    @dg.job
    def nothing() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
        leave_behind(bed, store, api, run=run.run_id)

        def look() -> str:
            resources = build_resources(store=store.url, launcher="kubernetes")
            with dg.build_sensor_context(instance=instance, resources=resources) as context:
                return str(reaper().evaluate_tick(context).skip_message)

        assert look() == "nothing is left over"
        instance.report_run_failed(run)
        assert look() == f"{GROUP}: its run {run.run_id[:8]} has ended"
        bed.wait(lambda: not bed.objects("jobs"))
