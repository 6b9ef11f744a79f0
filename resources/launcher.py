"""The launcher of stages, and what a stage may use, as a Dagster resource."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType

import dagster as dg
from pydantic import Field

from codellm_dag.launch import InlineLauncher, Launcher, LocalLauncher
from codellm_dag.recipes import Runtime

LAUNCHER_VARIABLE = "CODELLM_LAUNCHER"
DEFAULT_LAUNCHER = "local"

LAUNCHERS: Mapping[str, Callable[[], Launcher]] = MappingProxyType(
    {"inline": InlineLauncher, "local": LocalLauncher}
)
"""Launchers by name."""


class LauncherResource(dg.ConfigurableResource):
    """Where stages run. Nothing here changes a result."""

    kind: str = Field(
        default="",
        description=f"{' or '.join(LAUNCHERS)}: in this process, or in processes of this machine. Empty: "
        f"CODELLM_LAUNCHER, or {DEFAULT_LAUNCHER}.",
    )
    threads: int = Field(
        default=0, ge=0, le=256, description="CPU threads of a stage; 0: two, or all of one."
    )
    workers: int = Field(
        default=0, ge=0, le=256, description="Worker processes of a stage; 0: two, or as many as cores."
    )

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Refuse a launcher that does not exist when the run begins, not when a stage is due."""
        del context
        self.open()

    def open(self) -> Launcher:
        """A launcher. Raises ValueError, naming those there are, for an unknown kind."""
        kind = self.kind or os.environ.get(LAUNCHER_VARIABLE) or DEFAULT_LAUNCHER
        if kind not in LAUNCHERS:
            later = " (it comes with the Kubernetes launcher)" if kind == "kubernetes" else ""
            raise ValueError(
                f"launcher {kind!r} does not exist{later}; allowed for the resource's 'kind' or "
                f"{LAUNCHER_VARIABLE}: {', '.join(LAUNCHERS)}"
            )
        return LAUNCHERS[kind]()

    def runtime(self) -> Runtime:
        """What a stage may use."""
        given = {"threads": self.threads, "workers": self.workers}
        return Runtime(**{name: number for name, number in given.items() if number})
