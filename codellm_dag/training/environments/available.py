"""Whether a backend can train on this machine; asked before a launch, so without PyTorch."""

from __future__ import annotations

import importlib.metadata

from codellm_dag.recipes.backends import Backend
from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.training.environments.framework import MissingEnvironmentError, environment, names


def check_available(backend: Backend) -> None:
    """Raise InvalidRecipeError, with the command that helps, unless the backend is installed here."""
    try:
        if backend.name in names():
            environment(backend.name).require()
    except MissingEnvironmentError as error:
        raise InvalidRecipeError(f"backends = {backend.name}: {error}, or leave it out") from error
    for package in backend.packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise InvalidRecipeError(
                f"backends = {backend.name}: the package {package} is not installed; install it: "
                f"pip install 'codellm-dag[{package}]', or leave it out"
            ) from None
