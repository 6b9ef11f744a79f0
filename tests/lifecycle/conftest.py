"""One whole life cycle with the tiny recipe, shared by the tests of a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Project:
    """A state folder with its store, and the commands a person would type at it."""

    folder: Path
    store_url: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    undisturbed: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> str:
        return self.store_url or str(self.folder / "store")

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "CODELLM_STORE": self.store,
            "CODELLM_CACHE": str(self.folder / "cache"),
            "DAGSTER_HOME": str(self.folder / "dagster"),
            "NO_COLOR": "1",
            "COLUMNS": "120",
        }
        return {**os.environ, **own, **self.variables}

    def run(self, *words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        """`codellm-dag WORDS` in this project; another exit code than expected fails with the output."""
        done = subprocess.run(
            [str(BIN / "codellm-dag"), *words],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.folder,
            check=False,
            timeout=1800,
        )
        if done.returncode != expect:
            pytest.fail(
                f"codellm-dag {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def digests(self) -> dict[str, str]:
        """Content digest of every artifact by stage and fingerprint."""
        manifests = sorted(Path(self.store).glob("artifacts/*/*/manifest.json"))
        loaded = [json.loads(path.read_text()) for path in manifests]
        return {f"{m['stage']}/{m['fingerprint']}": m["content_digest"] for m in loaded}

    def json(self, *words: str, expect: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", expect=expect).stdout)

    def score(self, model: str, benchmark: str, metric: str = "") -> str:
        """The id of a model's present score; of its first metric if none is named."""
        rows = [row for row in self.json("scores")["scores"] if row["current"]]
        found = [r["id"] for r in rows if (r["model"], r["benchmark"]) == (model, benchmark)]
        found = [name for name in found if not metric or name.endswith(f"/{metric}")]
        assert found, f"no score {model} {benchmark} {metric} among {[(r['model'], r['id']) for r in rows]}"
        return found[0]


@pytest.fixture(scope="session")
def lifecycle(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny recipe from raw sources to the leaderboard; `undisturbed`: the digests of that first run."""
    project = Project(tmp_path_factory.mktemp("lifecycle"))
    project.run("demo", "--recipe", "tiny")
    project.undisturbed.update(project.digests())
    return project
