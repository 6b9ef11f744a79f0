"""What the stages `pretrained_checkpoint` and `sft_checkpoint` share: training by a backend, and its result.

What is trained on, for how many steps, and from which model is each stage's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codellm_dag.stages.protocol import Inputs, Report
from codellm_dag.training.backends.protocol import TrainingJob, TrainingRecipe
from codellm_dag.training.backends.protocol import run as run_backend
from codellm_dag.training.batch_schedule import BatchSchedule
from codellm_dag.training.batches import micro_rows
from codellm_dag.training.output import run_identity, save_checkpoint
from codellm_dag.training.plan import Plan, last_loss
from codellm_dag.training.processes import Processes
from codellm_dag.training.rows import Rows


def plan_of(
    recipe: TrainingRecipe, schedule: BatchSchedule, identity: str, processes: int, most: int
) -> Plan:
    """How a run of `recipe` trains by `schedule` on so many processes, with at most `most` rows a pass.

    Raises UnevenBatchError where a batch cannot be shared out.
    """
    micro = [micro_rows(rows, processes, most, field) for field, rows in recipe.batch.sizes.items()]
    later = zip(schedule.stretches[1:], micro[1:], strict=True)
    return Plan(
        recipe.optimizer,
        recipe.batch,
        schedule.steps,
        recipe.seed,
        identity,
        micro[0],
        recipe.divergence,
        recipe.compute,
        growth=tuple(replace(part, micro_rows=rows) for part, rows in later),
    )


def train_checkpoint(
    stage: str,
    recipe: TrainingRecipe,
    inputs: Inputs,
    out: Path,
    report: Report,
    *,
    build: Callable[[], Any],
    tokenizer: Path,
    rows: Rows,
    schedule: BatchSchedule,
    messages: Sequence[list[dict[str, str]]] = (),
    finish: Callable[[Any], Any] = lambda model: model,
) -> None:
    """Train the model of `build` by `schedule`, and write it to `out`; in SFT as a chat model.

    `build`, `tokenizer`, `rows` and `messages` are those of `TrainingJob`; `finish` makes of the trained
    model what is written. Metrics: parameters, tokens (with a loss), steps, loss_first, loss_last (mean of
    the last tenth of steps), and those of the backend. Raises what the backend raises.
    """
    processes, steps = Processes.join(), schedule.steps
    identity = run_identity(recipe, inputs, report.runtime.threads)
    plan = plan_of(recipe, schedule, identity, processes.size, report.runtime.micro_rows)
    with tempfile.TemporaryDirectory(prefix="training-") as work:
        job = TrainingJob(
            recipe, build, tokenizer, rows, messages, plan, processes.size, Path(work), report.resume_dir
        )
        finished = run_backend(job, out, report)
    trained = finished.trained
    if finished.model is not None:
        facts = {"recipe": recipe.model_dump(mode="json"), "steps": steps, "tokens": trained.targets}
        model = finish(finished.model)
        save_checkpoint(out, model, tokenizer, chat=job.kind == "sft", facts={"stage": stage, **facts})
        report.metric(parameters=sum(parameter.numel() for parameter in model.parameters()))
    report.metric(tokens=trained.targets, steps=steps)
    report.metric(loss_first=trained.losses[0], loss_last=last_loss(trained.losses))
