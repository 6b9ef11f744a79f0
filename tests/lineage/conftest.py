"""Toy stages must be importable by name, as a stage's module is."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from toy_life_cycle import LifeCycle, write_sources

from codellm_dag.store import Store


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sources and a store in which the unchanged toy life cycle has run: copied, never used."""
    folder = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_SOURCES", str(write_sources(folder / "sources")))
        LifeCycle(Store(folder / "store"), folder / "sources").run()
    return folder


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store."""
    monkeypatch.setenv("CODELLM_CACHE", str(tmp_path / "cache"))
    return Store(tmp_path / "store")


@pytest.fixture
def life_cycle(store: Store, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LifeCycle:
    """The toy life cycle over its own sources; unchanged, it has run in `store` already."""
    monkeypatch.setenv("TOY_SOURCES", str(tmp_path / "sources"))
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return LifeCycle(store, tmp_path / "sources")
