"""Hugging Face's `Trainer`; several processes each hold the whole model (DistributedDataParallel)."""

from __future__ import annotations

import importlib.metadata

from codellm_dag.stages.protocol import Report
from codellm_dag.training.backends.protocol import Finished, Rendered, TrainingJob, TrainingRecipe


def version() -> str:
    """The version of transformers."""
    return importlib.metadata.version("transformers")


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Nothing: every recipe was made for this backend first."""
    del recipe
    return []


def render(job: TrainingJob) -> Rendered:
    """Nothing to write: the arguments are made where they are used."""
    del job
    return Rendered({})


def validate(rendered: Rendered) -> None:
    """Nothing to read."""
    del rendered


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Train in this process, one of ``job.processes``."""
    from codellm_dag.training.trainer import train as train_packed

    del rendered
    return Finished(*train_packed(job.build(), job.rows, job.plan, report))
