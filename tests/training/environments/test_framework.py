"""The pinned lists, and an environment that is complete or absent."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from codellm_dag.training.environments.framework import (
    VARIABLE,
    EnvironmentBuildError,
    FrameworkEnvironment,
    MissingEnvironmentError,
    environment,
    names,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "environments"))


@pytest.mark.parametrize("name", names())
def test_a_list_pins_every_package_and_none_of_cuda(name: str) -> None:
    item = environment(name)
    pins = [line for line in item.requirements.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._]+", line) for line in pins)
    assert not [line for line in pins if re.match(r"nvidia|cuda", line)]
    assert item.version == item.version_of(item.framework)
    assert item.version_of("torch") == "2.13.0"


def test_the_folder_is_named_by_the_list(tmp_path: Path) -> None:
    item = environment("llamafactory")
    other = FrameworkEnvironment("llamafactory", item.requirements + "attrs==1.0\n")
    assert item.folder.parent == tmp_path / "environments"
    assert item.folder.name.startswith("llamafactory-")
    assert item.folder != other.folder


def test_what_is_not_built_is_one_error_with_the_command() -> None:
    with pytest.raises(MissingEnvironmentError, match="codellm-dag environments build swift") as caught:
        _ = environment("swift").python
    assert "ms-swift 4.6.0" in str(caught.value)
    assert caught.value.label == "invalid_recipe"


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="no environment 'axolotl'; allowed: colossalai, llamafactory"):
        environment("axolotl")


def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    item = FrameworkEnvironment("none", "# framework: torch\ntorch==2.13.0\n")
    with pytest.raises(EnvironmentBuildError, match=r"PyTorch 2\.13\.0 could not be installed"):
        item.build()
    assert list((tmp_path / "environments").iterdir()) == []
    assert not item.built


def test_pytorch_can_be_installed_before_anything_else_is() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import codellm_dag.training.environments.pytorch"
    subprocess.run([sys.executable, "-S", "-I", "-c", code, str(ROOT)], check=True)
