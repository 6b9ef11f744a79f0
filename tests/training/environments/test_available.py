"""Which backends can train on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from codellm_dag.recipes.backends import Backend
from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.training.environments.available import check_available
from codellm_dag.training.environments.framework import VARIABLE, environment


def test_a_backend_without_its_environment_is_refused_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    check_available(Backend())
    with pytest.raises(InvalidRecipeError) as refused:
        check_available(Backend(name="swift"))
    assert str(refused.value).startswith("backends = swift: the environment of swift (ms-swift ")
    assert "codellm-dag environments build swift, or leave it out" in str(refused.value)
    environment("swift").folder.mkdir()
    check_available(Backend(name="swift"))


def test_a_backend_without_its_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "codellm_dag.recipes.backends._DISTRIBUTIONS", {"deepspeed": ("no-such-distribution",)}
    )
    with pytest.raises(InvalidRecipeError, match="backends = deepspeed: the package no-such-distribution is"):
        check_available(Backend(name="deepspeed"))


def test_a_backend_that_trains_nowhere_here_is_refused() -> None:
    with pytest.raises(InvalidRecipeError) as refused:
        check_available(Backend(name="torchtitan"), "sft_checkpoint.backend.name", "choose another backend")
    assert str(refused.value).startswith(
        "sft_checkpoint.backend.name = torchtitan: TorchTitan 0.3.0 does not"
    )
    assert str(refused.value).endswith(", or choose another backend")
