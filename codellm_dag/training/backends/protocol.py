"""What a backend does: a training job becomes a framework's configuration, is checked by it, and is run.

A backend is a module of this folder whose functions are those of `Backend`; a recipe's ``backend.name`` is
the module's name. Only the chosen backend's module is in a stage's code digest: no backend imports another at
module level. `refusals` is asked before a launch, where no PyTorch may be installed: PyTorch, NumPy and
frameworks are imported inside the functions. A framework with an environment of its own runs as a subprocess
of `Rendered.command`, and its module names the pinned requirements that lie beside it, which puts them into
the code digest.

The order: `refusals` (by the launcher), then in the stage `render`, `validate`, `train`; in a group every
process does all three.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from codellm_dag.recipes.backends import Backend as BackendRecipe
from codellm_dag.recipes.training import PretrainingRecipe, SftRecipe
from codellm_dag.stages.protocol import VOLATILE, Report
from codellm_dag.training.plan import Plan, Trained

if TYPE_CHECKING:
    from codellm_dag.training.rows import Rows

TrainingRecipe = PretrainingRecipe | SftRecipe


class BackendUnavailableError(RuntimeError):
    """The framework is not installed here, or not for this machine; the message says how to get it."""

    label = "invalid_recipe"


class FrameworkFailedError(RuntimeError):
    """The framework ended with an error; the message has the end of what it printed."""

    label = "error"


@dataclass(frozen=True)
class TrainingJob:
    """What a backend is given; all paths are local.

    ``build`` makes the Hugging Face model to start from, float32, with the same weights in every process.
    ``tokenizer`` is the tokenizer's folder. ``rows`` are packed rows, which in-process backends read in the
    order of `row_order`; ``messages`` the SFT conversations for frameworks that pack themselves (empty in
    pretraining). ``processes`` share every step's ``plan.batch.global_rows`` in passes of `micro_rows`; where
    the batch grows, these are the first step's.
    ``work`` is a scratch folder of this process, ``resume`` survives attempts (see `Report.resume_dir`).
    """

    recipe: TrainingRecipe
    build: Callable[[], Any]
    tokenizer: Path
    rows: Rows
    messages: Sequence[list[dict[str, str]]]
    plan: Plan
    processes: int
    work: Path
    resume: Path

    @property
    def kind(self) -> Literal["pretraining", "sft"]:
        """What the recipe trains for."""
        return "sft" if isinstance(self.recipe, SftRecipe) else "pretraining"

    @property
    def backend(self) -> BackendRecipe:
        """The recipe's part for the backend."""
        return self.recipe.backend

    @property
    def micro_rows(self) -> int:
        """Rows of one forward pass of one process."""
        return self.plan.micro_rows

    @property
    def accumulation(self) -> int:
        """Forward passes of one process in one step, in the step that has most."""
        from codellm_dag.training.batches import accumulation_steps

        return accumulation_steps(self.plan, self.processes)

    def model_folder(self) -> Path:
        """A Hugging Face folder of the model to start from with its tokenizer, written on the first call."""
        folder = self.work / "model"
        if not folder.is_dir():
            from codellm_dag.training.output import copy_tokenizer

            model = self.build()
            model.should_save_on_this_rank = lambda _: True  # in a group transformers writes in rank 0 only
            model.save_pretrained(folder)
            copy_tokenizer(self.tokenizer, folder)
        return folder


@dataclass(frozen=True)
class Rendered:
    """A framework's own configuration and launch.

    ``files``: name below ``job.work`` → text. ``command``: arguments of the environment's Python (or of
    torchrun); empty where the backend trains in this process. ``environment``: variables to set.
    """

    files: Mapping[str, str]
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the files below `folder`."""
        for name, text in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Finished:
    """A trained model: ``model`` is a whole Hugging Face model on the CPU in rank 0, None in other ranks."""

    trained: Trained
    model: Any


class Backend(Protocol):
    """The functions of a backend's module."""

    def version(self) -> str:
        """The framework's version, e.g. ``0.19.8``. Raises BackendUnavailableError."""
        ...

    def refusals(self, recipe: TrainingRecipe) -> list[str]:
        """What of the recipe the framework cannot express: ``optimizer.name = muon: …; allowed: adamw``.

        Beyond the fields of `Backend` itself, which its recipe refuses. Empty when all can be expressed.
        Asked before anything is launched.
        """
        ...

    def render(self, job: TrainingJob) -> Rendered:
        """The framework's configuration for `job`."""
        ...

    def validate(self, rendered: Rendered) -> None:
        """Read `rendered` with the framework's own parser. Raises InvalidRecipeError with its words."""
        ...

    def train(self, job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
        """Train. Every step's loss goes to ``report.point(step, loss=…, learning_rate=…, grad_norm=…)``.

        Raises DivergedError, FrameworkFailedError, Stopped.
        """
        ...


def backend(name: str) -> Backend:
    """The backend's module. Raises BackendUnavailableError if it, or what it imports, is not installed."""
    try:
        return cast(Backend, importlib.import_module(f"{__package__}.{name}"))
    except ModuleNotFoundError as error:
        raise BackendUnavailableError(
            f"backend.name = {name}: needs the package {error.name!r}, which is not installed"
        ) from error


def run(job: TrainingJob, out: Path, report: Report) -> Finished:
    """Train `job` with the backend that its recipe names; its configuration is kept in ``out/_volatile``.

    Metrics: backend, backend_version. Raises what the backend raises.
    """
    chosen = backend(job.backend.name)
    report.metric(backend=job.backend.name, backend_version=chosen.version())
    rendered = chosen.render(job)
    chosen.validate(rendered)
    for folder in (job.work, out / VOLATILE / job.backend.name):
        rendered.write(folder)
    return chosen.train(job, rendered, report)
