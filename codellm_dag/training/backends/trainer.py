"""Hugging Face's `Trainer`; several processes each hold the whole model (DistributedDataParallel)."""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.stages.protocol import Report
from codellm_dag.training.backends.protocol import Finished, Rendered, TrainingJob, TrainingRecipe

ARGUMENTS = "training_arguments.json"
_OF_THE_PLACE = ("output_dir", "report_to")


def version() -> str:
    """The version of transformers."""
    return importlib.metadata.version("transformers")


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Nothing: every recipe was made for this backend first."""
    del recipe
    return []


def render(job: TrainingJob) -> Rendered:
    """Values of `TrainingArguments`, but for those that only say where and to whom a run reports."""
    from codellm_dag.training.compute import compute_arguments
    from codellm_dag.training.run import trainer_arguments

    values = trainer_arguments(job.plan, job.resume, job.processes) | compute_arguments(job.plan.compute)
    values = {name: value for name, value in values.items() if name not in _OF_THE_PLACE}
    return Rendered({ARGUMENTS: json.dumps(values, indent=1, sort_keys=True) + "\n"})


def validate(rendered: Rendered) -> None:
    """Read them with transformers' own parser."""
    from transformers import HfArgumentParser, TrainingArguments

    arguments: Any = TrainingArguments
    try:
        HfArgumentParser(arguments).parse_dict(json.loads(rendered.files[ARGUMENTS]))
    except (TypeError, ValueError) as error:
        raise InvalidRecipeError(f"transformers refuses its arguments: {error}") from error


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Train in this process, one of ``job.processes``."""
    from codellm_dag.training.run import train as train_packed

    values = json.loads(rendered.files[ARGUMENTS])
    return Finished(*train_packed(job.build(), job.rows, job.plan, report, **values))
