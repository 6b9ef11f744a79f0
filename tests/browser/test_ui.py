"""Dagster's UI as a person sees it: the graph, an asset's page, and a partition run again from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from codellm_dag.definitions import defs
from codellm_dag.store import Store
from resources.instance import ensure_dagster_home
from tests.support.ports import free_port

from .chromium import Page, chromium, find_chromium

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store, Dagster home and browser profile."""
    return tmp_path_factory.mktemp("ui")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """The address of a ``dagster dev`` of its own, with its daemon, as `make ui` starts it."""
    find_chromium()  # fail first, and with a sentence, where there is none
    port = free_port()
    home = ensure_dagster_home(folder / "dagster")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "CODELLM_STORE": str(folder / "store"),
        "CODELLM_PRESET": "tiny",
    }
    command = ["dagster", "dev", "-m", "codellm_dag.definitions", "-h", "127.0.0.1", "-p", str(port)]
    with (folder / "dagster.log").open("wb") as log:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}/server_info", process, folder / "dagster.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        _end(process)


@pytest.fixture
def page(address: str, tmp_path: Path) -> Iterator[Page]:
    """A fresh browser."""
    del address
    with chromium(tmp_path / "profile") as opened:
        yield opened


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(
        f"dagster dev did not answer in {seconds:g} s (exit code {process.poll()}):\n{log.read_text()}"
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_graph_shows_every_asset_in_its_group(page: Page, address: str):
    specs = defs.resolve_all_asset_specs()
    groups = sorted({spec.group_name for spec in specs if spec.group_name})
    size = {
        "width": 3200,
        "height": 5000,
        "deviceScaleFactor": 1,
        "mobile": False,
    }  # only what is in sight is drawn
    page.call("Emulation.setDeviceMetricsOverride", **size)
    expanded = "%2C".join(f"global%40global%3A{group}" for group in groups)
    page.open(f"{address}/asset-groups/?expanded={expanded}")
    shown = page.wait_for("leaderboard", "mixture", *groups).splitlines()
    names = [spec.key.to_user_string() for spec in specs]
    assert [name for name in names if not any(stands_for(line, name) for line in shown)] == []


def stands_for(shown: str, name: str) -> bool:
    """Whether a line is an asset's name; long ones are cut in the middle: ``pretra…_checkpoint``."""
    first, cut, last = shown.partition("…")
    return shown == name or bool(cut and name.startswith(first) and name.endswith(last))


def test_an_assets_page_runs_a_partition_and_shows_what_came_of_it(page: Page, address: str, folder: Path):
    page.open(f"{address}/assets/benchmark_problems")
    page.wait_for("The problems of one benchmark", "benchmarks", "evals", "Python", "lifecycle")
    page.click("Materialize…")
    page.wait_for("Launch runs to materialize benchmark_problems")
    page.click("Select a partition or create one")
    page.wait_for("microbench")
    page.click("microbench", last=True)
    page.wait_for("Launch 1 run")
    page.click("Launch 1 run")
    page.wait_for("Launched run")
    page.open(f"{address}/assets/benchmark_problems?view=partitions&partition=microbench")
    shown = page.wait_for(
        "Materialized (1)", "content digest", "first time", "recipe", seconds=150, reload_every=15
    )
    artifact = Store(folder / "store").refs.artifact("benchmark_problems", "microbench")
    assert artifact is not None
    assert artifact.content_digest in shown
    assert "Missing (1)" in shown


def test_a_checks_page_says_that_it_blocks(page: Page, address: str):
    page.open(f"{address}/assets/clean_corpus?view=checks")
    page.wait_for("removal_within_bounds", "This is a blocking asset check.")
