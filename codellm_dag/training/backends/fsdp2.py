"""PyTorch's FSDP2 (`fully_shard`, DTensor), full or hybrid sharding, in this process.

Rows, losses, optimizer, schedule and identity are the trainer's own. Hugging Face's own flag ``fsdp`` is not
used: on CPUs it trains DistributedDataParallel without a word.
"""

from __future__ import annotations

import json

from codellm_dag.recipes.backends import uneven_groups
from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.stages.protocol import Report
from codellm_dag.training.backends.protocol import Finished, Rendered, TrainingJob, TrainingRecipe
from codellm_dag.training.expressing import refuse_where_sharded

CONFIG = "fsdp2.json"
AUTOCAST = {"bf16": False, "fp16": False}
"""Of `TrainingArguments`: our own trainer casts and scales."""


def version() -> str:
    """PyTorch's version, of which FSDP2 is a part."""
    import torch

    return str(torch.__version__)


def refusals(recipe: TrainingRecipe) -> list[str]:
    """Muon."""
    return refuse_where_sharded(recipe, compiles=True, scales=True)


def render(job: TrainingJob) -> Rendered:
    """The device mesh: its dimensions by name. Replicas come first where sharding is hybrid."""
    group = job.backend.hybrid_sharding or job.processes
    mesh = (
        {"shard": group} if group == job.processes else {"replicate": job.processes // group, "shard": group}
    )
    values = {"processes": job.processes, "device_mesh": mesh}
    return Rendered({CONFIG: json.dumps(values, indent=1) + "\n"})


def validate(rendered: Rendered) -> None:
    """Whether the mesh has as many places as there are processes; PyTorch checks the rest when it is made."""
    values = json.loads(rendered.files[CONFIG])
    mesh = values["device_mesh"]
    if line := uneven_groups(mesh["shard"], values["processes"]):
        raise InvalidRecipeError(line)


def train(job: TrainingJob, rendered: Rendered, report: Report) -> Finished:
    """Train in this process, one of ``job.processes``."""
    from codellm_dag.training.fsdp2 import Fsdp2Trainer
    from codellm_dag.training.processes import Processes
    from codellm_dag.training.run import train as train_packed

    class Sharded(Fsdp2Trainer):
        build = staticmethod(job.build)
        sharding_group = json.loads(rendered.files[CONFIG])["device_mesh"]["shard"]

    Processes.join_group()
    return Finished(*train_packed(job.build(), job.rows, job.plan, report, kind=Sharded, **AUTOCAST))
