"""Store, launcher and DAGSTER_HOME as Dagster sees them."""

import sys

import dagster as dg
import pytest
import yaml
from dagster import build_init_resource_context

from codellm_dag.launch import InlineLauncher, LocalLauncher
from codellm_dag.store import InvalidStoreURLError
from resources import build_resources
from resources.instance import ensure_dagster_home
from resources.keys import dagster_key, store_key
from resources.launcher import LauncherResource, cancel_requested, ctrl_c_cancels
from resources.store import StoreResource


def test_the_store_is_the_configured_one_then_the_environments_then_below_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CODELLM_STORE", raising=False)
    assert StoreResource().open().url == (tmp_path / ".codellm-dag/store").as_uri()
    monkeypatch.setenv("CODELLM_STORE", "s3://bucket/prefix")
    assert StoreResource().open().url == "s3://bucket/prefix"
    assert StoreResource(url=str(tmp_path)).open().url == tmp_path.as_uri()


def test_a_store_is_opened_once():
    store = StoreResource(url="/nowhere")
    assert store.open() is store.open()


def test_a_bad_address_names_what_is_allowed():
    with pytest.raises(InvalidStoreURLError, match="allowed: a folder"):
        StoreResource(url="ftp://host/x").open()


def test_launchers_by_name(monkeypatch):
    monkeypatch.delenv("CODELLM_LAUNCHER", raising=False)
    assert isinstance(LauncherResource().open(), LocalLauncher)
    monkeypatch.setenv("CODELLM_LAUNCHER", "inline")
    assert isinstance(LauncherResource().open(), InlineLauncher)
    assert isinstance(LauncherResource(kind="local").open(), LocalLauncher)


@pytest.mark.parametrize("kind", ["slurm", "Local"])
def test_a_launcher_that_does_not_exist_is_refused_when_the_run_begins(kind):
    with pytest.raises(ValueError, match=r"allowed for .*CODELLM_LAUNCHER: inline, local, kubernetes"):
        LauncherResource(kind=kind).setup_for_execution(build_init_resource_context())


def test_kubernetes_without_its_extra_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("codellm_dag.launch.kubernetes.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(
        ValueError, match=r"needs the package 'kubernetes'; .*pip install 'codellm-dag\[kubernetes\]'"
    ):
        LauncherResource(kind="kubernetes").setup_for_execution(build_init_resource_context())


def test_pods_have_their_own_cpus(monkeypatch):
    monkeypatch.setenv("CODELLM_IMAGE", "registry.example/stage:1")
    runtime = LauncherResource(kind="kubernetes", pods="cpu").runtime("tokenizer")
    assert runtime.kubernetes is not None
    assert (runtime.threads, runtime.workers, runtime.kubernetes.cpu) == (4, 4, "4")


def test_a_run_that_is_cancelled_is_told_from_one_that_is_moved():
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
        cancelled = cancel_requested(instance, run.run_id)
        assert not cancelled()
        with ctrl_c_cancels():
            assert cancelled()
        instance.report_run_canceling(run)
        assert cancelled()
        assert not cancel_requested(instance, "no such run")()


@dg.job
def nothing() -> None:
    """A job for runs."""


def test_threads_and_workers_are_the_runtime_and_zero_is_its_default():
    assert LauncherResource(threads=3).runtime().threads == 3
    assert LauncherResource(threads=3).runtime().workers == LauncherResource().runtime().workers >= 1


def test_a_dagster_home_asks_nothing_and_keeps_what_is_there(tmp_path):
    home = ensure_dagster_home(tmp_path / "deep" / "home")
    settings = yaml.safe_load((home / "dagster.yaml").read_text())
    assert settings == {"telemetry": {"enabled": False}, "nux": {"enabled": False}}
    (home / "dagster.yaml").write_text("telemetry: {enabled: true}\n")
    assert ensure_dagster_home(home) == home
    assert (home / "dagster.yaml").read_text() == "telemetry: {enabled: true}\n"
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() == 0


def test_the_settings_we_write_are_settings_dagster_knows(tmp_path):
    home = ensure_dagster_home(tmp_path)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.telemetry_enabled is False
        assert instance.nux_enabled is False


def test_keys_go_there_and_back():
    pair = dg.MultiPartitionsDefinition(
        {
            "model": dg.DynamicPartitionsDefinition(name="model"),
            "benchmark": dg.StaticPartitionsDefinition(["humaneval"]),
        }
    )
    key = dagster_key(pair, "rl@a=1|humaneval")
    assert isinstance(key, dg.MultiPartitionKey)
    assert (key, store_key(key)) == ("humaneval|rl@a=1", "rl@a=1|humaneval")


def test_resources_by_the_keys_that_assets_ask_for():
    assert set(build_resources()) == {"store", "launcher", "artifacts"}
