"""What is recorded of the machine."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import pytest

from codellm_dag.recipes.runtime import Runtime
from codellm_dag.stages import environment
from codellm_dag.stages.environment import collect_environment, installed_packages


def test_packages_agree_with_importlib() -> None:
    found = installed_packages()
    for name in ("pydantic", "dagster-pipes", "torch", "ruff"):
        assert found[name] == importlib.metadata.version(name)
    assert list(found) == sorted(found)


def test_machine() -> None:
    found = collect_environment(Runtime(threads=1, workers=2))
    assert found.python == platform.python_version()
    assert (found.threads, found.workers) == (1, 2)
    assert found.cpu_cores >= 1
    assert found.cpu_model
    assert found.memory_bytes > 2**28
    assert found.devices == ["cpu"]


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_git_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_ROOT", tmp_path)
    assert collect_environment(Runtime()).git_commit is None
    (tmp_path / "codellm_dag").mkdir()
    (tmp_path / "codellm_dag" / "a.py").write_text("1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "x")
    clean = collect_environment(Runtime())
    assert clean.git_commit == git(tmp_path, "rev-parse", "HEAD")
    assert (clean.git_dirty, clean.git_diff_digest) == (False, None)
    (tmp_path / "notes.txt").write_text("not code\n")
    assert collect_environment(Runtime()).git_dirty is False
    (tmp_path / "codellm_dag" / "a.py").write_text("2\n")
    changed = collect_environment(Runtime())
    assert changed.git_dirty
    assert changed.git_diff_digest
    (tmp_path / "codellm_dag" / "new.py").write_text("3\n")
    assert collect_environment(Runtime()).git_diff_digest not in (None, changed.git_diff_digest)


def test_an_image_without_git_says_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_ROOT", tmp_path)
    monkeypatch.setenv("CODELLM_GIT_COMMIT", "abc")
    monkeypatch.setenv("CODELLM_IMAGE_DIGEST", "sha256:def")
    found = collect_environment(Runtime())
    assert (found.git_commit, found.image_digest) == ("abc", "sha256:def")
