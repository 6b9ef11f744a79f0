"""The launcher of stages, and what a stage may use, as a Dagster resource."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, PrivateAttr

from codellm_dag.launch import InlineLauncher, Launcher, LocalLauncher, RemoteLauncher
from codellm_dag.recipes import Runtime
from codellm_dag.recipes.pod_presets import Pods, load_pods
from codellm_dag.stages.registry import STAGES

if TYPE_CHECKING:
    from codellm_dag.launch.kubernetes.api import Api

LAUNCHER_VARIABLE = "CODELLM_LAUNCHER"
DEFAULT_LAUNCHER = "local"
KINDS = ("inline", "local", "kubernetes")
"""Launchers by name."""

_CANCELED = (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)
_ctrl_c: list[bool] = []


class LauncherResource(dg.ConfigurableResource):
    """Where stages run. Nothing here changes a result."""

    kind: str = Field(
        default="",
        description=f"{', '.join(KINDS)}: in this process, in processes of this machine, or in pods. Empty: "
        f"CODELLM_LAUNCHER, or {DEFAULT_LAUNCHER}.",
    )
    threads: int = Field(
        default=0, ge=0, le=256, description="CPU threads of a stage; 0: two, or all of one; a pod's CPUs."
    )
    workers: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Worker processes of a stage; 0: two, or as many as cores; a pod's CPUs.",
    )
    micro_rows: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Most packed rows of one forward pass in training, what a device's memory holds; 0: all.",
    )
    hours_between_failures: float = Field(
        default=0.0,
        ge=0.0,
        le=1e6,
        description="Mean time between failures of one machine, in hours; decides how often training "
        "saves; 0: 24.",
    )
    keep_checkpoints: int = Field(
        default=0, ge=0, le=1000, description="Checkpoints to resume from that training keeps; 0: one."
    )
    report_to: list[str] = Field(
        default=[],
        description="Trackers that training reports to: tensorboard, mlflow, trackio, wandb; set up by their "
        "own environment variables.",
    )
    pods: str = Field(
        default="",
        description="Shape of the pods, with kubernetes: a preset, or a YAML file of one shape or of one for "
        "each stage. Empty: CODELLM_PODS, or cpu.",
    )
    _api: Any = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Refuse a launcher that cannot work when the run begins, not when a stage is due."""
        del context
        self.open()

    def open(self, context: dg.AssetExecutionContext | None = None) -> Launcher | RemoteLauncher:
        """A launcher for one run. Raises ValueError, naming those there are, for an unknown kind."""
        match chosen_launcher(self.kind):
            case "inline":
                return InlineLauncher()
            case "local":
                return LocalLauncher()
            case "kubernetes":
                return self._kubernetes(context)
            case unknown:
                raise ValueError(
                    f"launcher {unknown!r} does not exist; allowed for the resource's 'kind' or "
                    f"{LAUNCHER_VARIABLE}: {', '.join(KINDS)}"
                )

    def runtime(self, stage: str = "") -> Runtime:
        """What a stage may use."""
        given: dict[str, Any] = {
            "threads": self.threads,
            "workers": self.workers,
            "micro_rows": self.micro_rows,
            "hours_between_failures": self.hours_between_failures,
            "keep_checkpoints": self.keep_checkpoints,
            "report_to": tuple(self.report_to),
        }
        if chosen_launcher(self.kind) == "kubernetes":
            from codellm_dag.launch.kubernetes.quantities import quantity

            shape = self.shapes().of(stage)
            cpus = max(1, int(quantity(shape.cpu)))
            given["threads"] = given["threads"] or max(1, min(256, cpus // shape.processes_per_node))
            given["workers"] = given["workers"] or min(256, cpus)
            given["kubernetes"] = shape
        return Runtime(**{name: value for name, value in given.items() if value})

    def shapes(self) -> Pods:
        """The shapes of the stages' pods. Raises InvalidRecipeError."""
        return load_pods(self.pods, stages=STAGES)

    def namespaces(self) -> list[str]:
        """The namespaces of all shapes, sorted. Raises InvalidRecipeError."""
        return sorted({shape.namespace for shape in self.shapes().shapes.values()})

    def cluster(self) -> Api:
        """The connection to the cluster. Raises InvalidRequestError, and ValueError without the extra."""
        if self._api is None:
            try:
                from codellm_dag.launch.kubernetes.api import Api
            except ModuleNotFoundError as error:
                raise ValueError(
                    f"launcher 'kubernetes' needs the package {error.name!r}; "
                    "install it with: pip install 'codellm-dag[kubernetes]'"
                ) from error
            self._api = Api.connect()
        return self._api

    def _kubernetes(self, context: dg.AssetExecutionContext | None) -> RemoteLauncher:
        api = self.cluster()
        from codellm_dag.launch.kubernetes.launcher import KubernetesLauncher

        self.shapes()
        if context is None:
            return KubernetesLauncher(api)
        cancel = cancel_requested(context.instance, context.run.run_id)
        return KubernetesLauncher(api, owner=context.run.run_id, cancel_requested=cancel)


def chosen_launcher(kind: str = "") -> str:
    """The launcher's name: as given, or as the environment says."""
    return kind or os.environ.get(LAUNCHER_VARIABLE) or DEFAULT_LAUNCHER


def cancel_requested(instance: dg.DagsterInstance, run_id: str) -> Callable[[], bool]:
    """Whether an interrupt of a run's process means that a person gave the run up.

    So it is if the run is being cancelled, or at Ctrl-C in a command of ours. A process that is merely moved
    or upgraded is interrupted too, and leaves its pods running.
    """

    def requested() -> bool:
        run = instance.get_run_by_id(run_id)
        return bool(_ctrl_c) or (run is not None and run.status in _CANCELED)

    return requested


@contextmanager
def ctrl_c_cancels() -> Iterator[None]:
    """Take an interrupt of this process as a person's wish to cancel, until the block ends."""
    _ctrl_c.append(True)
    try:
        yield
    finally:
        _ctrl_c.pop()
