"""What would make a training run fit where nothing does: found by planning other runs, never guessed.

Three things leave the result as it is, so they are what is tried: rows of a forward pass, gradient
checkpointing, and the number of devices. Each answer is the least change of its kind: the most rows, the
fewest devices, the gentlest strategy. Muon trains with whole matrices only (docs/training.md), so for it DDP
alone counts; where that is not enough, AdamW, which can be sharded, is tried too. DeepSpeed trains no fp16
here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from codellm_dag.recipes.base import InvalidRecipeError
from codellm_dag.scaling.run_plan import USABLE, Fit, Question, micro_rows_for, strategies_of

_GENTLEST = ("ddp", "zero1", "zero2", "zero3", "fsdp", "zero1_offload", "zero2_offload", "zero3_offload")
"""What moves least comes first. Tensor and pipeline parallelism, which few backends have, are not among them;
they count where they were asked for."""


@dataclass(frozen=True)
class Remedy:
    """A run that fits: `question` is the asked one with the changes, `fit` its gentlest strategy."""

    question: Question
    fit: Fit


@dataclass(frozen=True)
class Advice:
    """How far a run is from fitting, and what would make it fit.

    ``nearest``: the strategy that lacks least. ``device_memory``: bytes of a device on which it would fit as
    asked. ``remedies``: runs that fit on the same kind of device. ``closest``: where there is none, the run
    that lacks least of those that were tried.
    """

    nearest: Fit
    device_memory: int
    remedies: tuple[Remedy, ...]
    closest: Remedy | None = None


def advise(question: Question) -> Advice:
    """What would make `question` fit, if nothing does as asked."""
    possible = [fit for fit in strategies_of(question) if _trains(question, fit)]
    nearest = min(possible, key=lambda fit: fit.missing)
    kinds = [question]
    if question.work.optimizer == "muon":
        kinds.append(replace(question, work=replace(question.work, optimizer="adamw")))
    found = next((remedies for kind in kinds if (remedies := _remedies(kind))), [])
    closest = None if found else _closest(kinds)
    return Advice(nearest, ceil(nearest.resident / USABLE), tuple(found), closest)


def _closest(kinds: Sequence[Question]) -> Remedy:
    """The run that lacks least: one row a pass, gradient checkpointing, on any number of devices."""
    runs = [
        run
        for kind in kinds
        for count in (kind.devices, *_more_devices(kind))
        for run in _runs(replace(kind, work=replace(kind.work, checkpointing=True)), count)
        if run.question.work.micro_rows == 1
    ]
    return min(runs, key=lambda run: run.fit.missing)


def _remedies(question: Question) -> list[Remedy]:
    """On as many devices; where that is not enough, on the fewest that are; and where all of these need host
    memory, on the fewest that do without.
    """
    checkpointed = replace(question, work=replace(question.work, checkpointing=True))
    versions = [question] if question.work.checkpointing else [question, checkpointed]
    found: list[Remedy] = []
    for version in versions:
        one = _most_rows(version, question.devices)
        if one and all(one.question.work.micro_rows > other.question.work.micro_rows for other in found):
            found.append(one)
    if not found:
        found = _fewest_devices(versions)
    if found and all(one.fit.memory.host for one in found):
        found += _fewest_devices(versions, offload=False)
    return found


def _fewest_devices(versions: Sequence[Question], *, offload: bool = True) -> list[Remedy]:
    """The fewest devices with which each version fits; a later one only if they are fewer than before."""
    found: list[Remedy] = []
    for version in versions:
        for count in _more_devices(version):
            if found and count >= found[-1].question.devices:
                break
            one = _most_rows(version, count, offload=offload)
            if one:
                found.append(one)
                break
    return found


def _more_devices(question: Question) -> Iterator[int]:
    """Larger numbers of devices that share the batch out evenly, rising."""
    model_devices = (question.tensor or 1) * (question.pipeline or 1)
    for replicas in range(1, question.global_rows + 1):
        count = replicas * model_devices
        if count > question.devices and question.global_rows % replicas == 0:
            yield count


def _most_rows(question: Question, devices: int, *, offload: bool = True) -> Remedy | None:
    """`question` on so many `devices`, with the most rows of a pass, up to its own, with which it fits;
    without `offload` in no host memory.
    """
    runs = [run for run in _runs(question, devices) if run.fit.fits and (offload or not run.fit.memory.host)]
    return min(runs, key=_cost, default=None)


def _runs(question: Question, devices: int) -> Iterator[Remedy]:
    """`question` on so many `devices`, with every strategy and every number of rows of a pass up to its own;
    none where its sharding groups do not divide the devices.
    """
    replicas = max(1, devices // ((question.tensor or 1) * (question.pipeline or 1)))
    rows = question.work.micro_rows + 1
    while rows > 1:
        rows = micro_rows_for(question.global_rows, replicas, rows - 1)
        accumulation = question.global_rows // (rows * replicas)
        work = replace(question.work, micro_rows=rows, accumulation=accumulation)
        asked = replace(question, devices=devices, work=work)
        try:
            yield from (Remedy(asked, fit) for fit in strategies_of(asked) if _trains(asked, fit))
        except InvalidRecipeError:
            return


def _trains(question: Question, fit: Fit) -> bool:
    strategy = fit.memory.strategy
    if question.work.optimizer == "muon":
        return strategy == "ddp"
    if question.work.precision == "fp16" and strategy.startswith("zero"):
        return False
    return strategy in _GENTLEST or bool(question.tensor or question.pipeline)


def _cost(run: Remedy) -> tuple[int, int]:
    """The most rows, then the gentlest strategy."""
    strategy = run.fit.memory.strategy
    gentleness = _GENTLEST.index(strategy) if strategy in _GENTLEST else len(_GENTLEST)
    return -run.question.work.micro_rows, gentleness
