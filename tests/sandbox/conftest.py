"""One open sandbox with one cell a test file, so that every program runs where the one before it ran."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

import pytest

from codellm_dag.sandbox import Call, Execution, Limits, Program, Sandbox

TIGHT = Limits(cpu_seconds=1.0, wall_seconds=2.5)
"""Limits that end an attack soon; an honest test program needs a hundredth of them."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One cell, no retries: what a program does to its cell is seen at once."""
    with Sandbox(workers=1, limits=TIGHT, retries=0) as sandbox:
        yield sandbox


@pytest.fixture
def run(sandbox: Sandbox) -> Callable[..., Execution]:
    """Run `source` and call its function ``f`` once with literal arguments."""

    def run_source(source: str, *args: str, limits: Limits | None = None) -> Execution:
        program = Program(textwrap.dedent(source), (Call("f", args),), limits=limits)
        return sandbox.run_one(program)

    return run_source
