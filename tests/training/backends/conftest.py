"""Environments for tests of frameworks: built where they are missing, never skipped."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from codellm_dag.training.environments.framework import environment


@pytest.fixture(scope="session")
def built() -> Callable[[str], None]:
    """Build an environment unless it is there; a build that fails fails the test."""
    return lambda name: print(environment(name).build(print))
