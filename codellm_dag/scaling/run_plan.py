"""What a training run needs, before it is launched: parameters, steps, FLOPs, memory, hours, files, cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.recipes.global_batch import largest_micro_rows, processes_that_share
from codellm_dag.recipes.training import Batch
from codellm_dag.scaling.allocator import resident_bytes
from codellm_dag.scaling.memory import (
    FLOAT32,
    STRATEGIES,
    Memory,
    Work,
    data_parallel_memory,
    parallel_memory,
)
from codellm_dag.training.batch_schedule import batch_schedule
from codellm_dag.training.devices import Device
from codellm_dag.training.flops import training_flops_per_token

DEFAULT_MFU = 0.4
"""Share of the peak that long runs reach: 38 to 43 % (Grattafiori et al. 2024, Llama 3, table 4)."""


USABLE = 0.9
"""Share of a device's memory that tensors may take; the rest is for the driver's context, NCCL's buffers and
gaps between blocks. A convention, not a measurement."""


@dataclass(frozen=True)
class Question:
    """What is planned. ``tokens``: of the whole run, 0 if unknown. ``price``: of a device-hour, 0 if unknown.

    ``tensor``, ``pipeline``: degrees to show; 0 takes the smallest that fit. ``batch``: how a batch grows to
    its `global_rows`, None where it is that large from the start.
    """

    work: Work
    global_rows: int
    tokens: int
    devices: int
    device: Device
    mfu: float = DEFAULT_MFU
    price: float = 0.0
    shard_group: int = 0
    tensor: int = 0
    pipeline: int = 0
    batch: Batch | None = None


@dataclass(frozen=True)
class Fit:
    """A strategy's memory and how much of it the device lacks, in bytes; 0 or less: it fits."""

    memory: Memory
    resident: int
    missing: int

    @property
    def fits(self) -> bool:
        """Whether the device has enough."""
        return self.missing <= 0


@dataclass(frozen=True)
class RunPlan:
    """The answer. None where the question lacks what it takes: tokens, a peak, a price."""

    steps: int | None
    flops_per_token: int
    flops: int | None
    hours: float | None
    device_hours: float | None
    cost: float | None
    weights_bytes: int
    resume_bytes: int
    strategies: tuple[Fit, ...]

    @property
    def fitting(self) -> list[str]:
        """Names of the strategies that fit."""
        return [fit.memory.strategy for fit in self.strategies if fit.fits]


def plan_run(question: Question) -> RunPlan:
    """Answer `question`. Raises InvalidRecipeError where rows or degrees cannot be shared out."""
    work, devices = question.work, question.devices
    per_token = training_flops_per_token(work.model, work.length)
    batch = question.batch or Batch(global_rows=question.global_rows)
    schedule = batch_schedule(batch, question.tokens // work.length, work.length) if question.tokens else None
    steps = schedule.steps if schedule else None
    if steps == 0:
        step_tokens = batch.global_rows * work.length
        raise InvalidRecipeError(f"tokens = {question.tokens}: less than one step of {step_tokens} tokens")
    flops = schedule.rows * work.length * per_token if schedule else None
    peak = question.device.peak(work.precision)
    hours = flops / (devices * peak * question.mfu) / 3600 if flops and peak else None
    device_hours = hours * devices if hours is not None else None
    cost = device_hours * question.price if device_hours is not None and question.price else None
    weights = work.model.parameters * FLOAT32.weight
    return RunPlan(
        steps=steps,
        flops_per_token=per_token,
        flops=flops,
        hours=hours,
        device_hours=device_hours,
        cost=cost,
        weights_bytes=weights,
        resume_bytes=weights + work.moments_bytes,
        strategies=strategies_of(question),
    )


def strategies_of(question: Question) -> tuple[Fit, ...]:
    """Every strategy's memory. Raises InvalidRecipeError where devices or degrees cannot be shared out."""
    work, devices = question.work, question.devices
    found = [data_parallel_memory(name, work, devices, question.shard_group) for name in STRATEGIES]
    found += _parallel(question)
    return tuple(_fit(memory, work, question.device) for memory in found)


def micro_rows_for(global_rows: int, devices: int, wanted: int) -> int:
    """The largest number of rows up to `wanted` in one forward pass that shares `global_rows` out evenly.

    `wanted` 0 sets no bound.
    Raises InvalidRecipeError where `devices` do not divide the rows.
    """
    if global_rows % devices:
        raise InvalidRecipeError(
            f"--devices {devices}: must divide batch.global_rows = {global_rows}; "
            f"allowed: {processes_that_share(global_rows)}"
        )
    return largest_micro_rows(global_rows // devices, wanted)


def _fit(memory: Memory, work: Work, device: Device) -> Fit:
    resident = resident_bytes(memory, work) if device.name == "cpu" else memory.total
    return Fit(memory, resident, resident - round(device.memory * USABLE))


def _parallel(question: Question) -> list[Memory]:
    """The degrees that were asked for, else the smallest that fit, else the largest that divide."""
    devices = question.devices
    if question.tensor or question.pipeline:
        tensor, pipeline = question.tensor or 1, question.pipeline or 1
        if devices % (tensor * pipeline):
            raise InvalidRecipeError(
                f"--devices {devices}: must be a multiple of tensor times pipeline parallelism, "
                f"{tensor} × {pipeline}"
            )
        return [_with_degrees(question, tensor, pipeline)]
    found = []
    for tensor, pipeline in _degrees(devices):
        try:
            memory = _with_degrees(question, tensor, pipeline)
        except InvalidRecipeError:
            continue  # these degrees do not divide the model
        found.append(memory)
        if _fit(memory, question.work, question.device).fits:
            return [memory]
    return found[-1:]


def _with_degrees(question: Question, tensor: int, pipeline: int) -> Memory:
    """The memory with more micro-batches a replica, since there are fewer replicas of the same batch."""
    data = question.devices // (tensor * pipeline)
    rows = question.work.micro_rows
    accumulation = max(1, question.global_rows // data // rows)
    work = Work(**{**vars(question.work), "accumulation": accumulation})
    return parallel_memory(work, tensor, pipeline, data)


def _degrees(devices: int) -> Sequence[tuple[int, int]]:
    """Pairs of degrees with at least 2 devices to a model, the fewest first; tensor parallelism up to 8, the
    GPUs of one machine (Narayanan et al. 2021, takeaway 1).
    """
    powers = [2**n for n in range(10)]
    pairs = [(t, p) for t in powers if t <= 8 for p in powers if t * p > 1 and devices % (t * p) == 0]
    return sorted(pairs, key=lambda pair: (pair[0] * pair[1], pair[1]))
