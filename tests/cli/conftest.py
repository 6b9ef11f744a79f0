"""The CLI on toy life cycles: `cli` runs a command as the console script does, with the toy stages."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "lineage"))

from toy_life_cycle import STAGES
from typer.testing import CliRunner

from codellm_dag.cli.app import app
from codellm_dag.launch import InlineLauncher
from codellm_dag.recipes import presets
from codellm_dag.stages import registry
from codellm_dag.store import Store
from tests.lineage.conftest import life_cycle, store, template

__all__ = ["life_cycle", "store", "template"]


@dataclass(frozen=True)
class Answer:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The answer that ``--json`` printed: standard output must be JSON and nothing else."""
        return json.loads(self.out)


Cli = Callable[..., Answer]


@pytest.fixture
def cli(store: Store, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command on `store`; never with colours, never with the reader's own settings."""
    monkeypatch.setattr(registry, "STAGES", STAGES)
    monkeypatch.setattr(presets, "_FOLDER", Path(__file__).parent / "presets")
    presets.run_config.cache_clear()
    monkeypatch.setattr("codellm_dag.lineage.reproduce.LocalLauncher", InlineLauncher)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("COLUMNS", "FORCE_COLOR", "CODELLM_PRESET"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> Answer:
        result = CliRunner().invoke(app, [*arguments, "--store", str(store.work_root)])
        return Answer(result.exit_code, result.stdout, result.stderr)

    return run
