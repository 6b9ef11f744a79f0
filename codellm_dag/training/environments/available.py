"""Whether a backend can train on this machine; asked before a launch, so without PyTorch.

verl's alone asks PyTorch, once its environment is there: it needs a GPU.
"""

from __future__ import annotations

import importlib
import importlib.metadata

from codellm_dag.recipes.backends import Backend
from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.training.backends.protocol import BackendUnavailableError
from codellm_dag.training.environments.framework import MissingEnvironmentError

IN_PROCESS = ("trainer", "deepspeed", "fsdp2")
"""Backends that train in the stage's own process; others have environments of their own, or do not train."""


def check_available(backend: Backend, field: str = "backends", instead: str = "leave it out") -> None:
    """Raise InvalidRecipeError, with what helps, unless the backend can train here.

    `field` is what names the backend, `instead` what else to do; both are words of the message.
    """
    told = f"{field} = {backend.name}"
    if backend.name not in IN_PROCESS:
        try:
            importlib.import_module(backend.module).version()
        except (MissingEnvironmentError, BackendUnavailableError) as error:
            why = str(error).removeprefix(f"backend.name = {backend.name}: ")
            raise InvalidRecipeError(f"{told}: {why}, or {instead}") from error
    for package in backend.packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise InvalidRecipeError(
                f"{told}: the package {package} is not installed; install it: "
                f"python scripts/install.py {package}, or {instead}"
            ) from None
