"""The answer of ``codellm-dag plan`` as JSON and as a table."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich import box
from rich.table import Table

from codellm_dag.cli import format as fmt
from codellm_dag.cli.session import Session
from codellm_dag.scaling.remedies import Advice, Remedy, advise
from codellm_dag.scaling.run_plan import USABLE, Fit, Question, RunPlan


def answer_json(stage: str, asked: Question, answer: RunPlan) -> dict[str, Any]:
    """One stage's answer; keys are the contract of docs/cli.md. Bytes, seconds' multiples as named."""
    work, model = asked.work, asked.work.model
    return {
        "stage": stage,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "sequence_length": work.length,
        "global_rows": asked.global_rows,
        "micro_rows": work.micro_rows,
        "accumulation": work.accumulation,
        "precision": work.precision,
        "optimizer": work.optimizer,
        "devices": asked.devices,
        "device": {name: getattr(asked.device, name) for name in ("name", "memory", "half", "single")},
        "mfu": asked.mfu,
        "tokens": asked.tokens or None,
        "steps": answer.steps,
        "flops_per_token": answer.flops_per_token,
        "flops": answer.flops,
        "hours": answer.hours,
        "device_hours": answer.device_hours,
        "cost": answer.cost,
        "weights_bytes": answer.weights_bytes,
        "resume_bytes": answer.resume_bytes,
        "strategies": [_strategy(fit) for fit in answer.strategies],
        "advice": None if answer.fitting else _advice(stage, asked, advise(asked)),
    }


def _advice(stage: str, asked: Question, advice: Advice) -> dict[str, Any]:
    return {
        "nearest": advice.nearest.memory.strategy,
        "missing": advice.nearest.missing,
        "device_memory": advice.device_memory,
        "remedies": [_remedy(stage, asked, remedy) for remedy in advice.remedies],
        "closest": _remedy(stage, asked, advice.closest) if advice.closest else None,
    }


def _remedy(stage: str, asked: Question, remedy: Remedy) -> dict[str, Any]:
    changed, fit = remedy.question, remedy.fit
    return {
        "options": _options(stage, asked, changed),
        "devices": changed.devices,
        "micro_rows": changed.work.micro_rows,
        "gradient_checkpointing": changed.work.checkpointing,
        "optimizer": changed.work.optimizer,
        "strategy": fit.memory.strategy,
        "resident": fit.resident,
        "host": fit.memory.host,
        "missing": max(0, fit.missing),
    }


def _options(stage: str, asked: Question, changed: Question) -> str:
    """The words of the command that lead from one question to the other."""
    words = []
    if changed.devices != asked.devices:
        words += ["--devices", str(changed.devices)]
    if changed.devices != asked.devices or changed.work.micro_rows != asked.work.micro_rows:
        words += ["--micro-rows", str(changed.work.micro_rows)]
    if changed.work.checkpointing != asked.work.checkpointing:
        words.append("--gradient-checkpointing")
    if changed.work.optimizer != asked.work.optimizer:
        words += ["--set", f"{stage}.optimizer.name={changed.work.optimizer}"]
    return " ".join(words)


def _strategy(fit: Fit) -> dict[str, Any]:
    memory = fit.memory
    return {
        **asdict(memory),
        "resident": fit.resident,
        "missing": max(0, fit.missing),
        "fits": fit.fits,
    }


def print_answer(here: Session, stage: str, asked: Question, answer: RunPlan) -> None:
    """One stage's answer for people: a few lines, then memory by strategy."""
    for name, value in _lines(asked, answer):
        here.out.print(f"{name:<12} {value}", soft_wrap=True, highlight=False)
    columns = ("weights", "gradients", "optimizer", "activations", "buffers", "per device", "host")
    table = Table(box=box.SIMPLE, title=f"{stage}: memory of one device", title_justify="left")
    table.add_column("strategy")
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("fits")
    for fit in answer.strategies:
        memory = fit.memory
        cells = (memory.weights, memory.gradients, memory.optimizer, memory.activations, memory.buffers)
        sizes = [fmt.size(cell) for cell in (*cells, fit.resident, memory.host)]
        word = "yes" if fit.fits else f"no, {fmt.size(fit.missing)} too much"
        table.add_row(memory.strategy, *sizes, word, style=None if fit.fits else "dim")
    here.out.print(table)
    usable = fmt.size(asked.device.memory * USABLE)
    here.out.print(
        f"A device has {fmt.size(asked.device.memory)}, of which {usable} are for tensors. Per device is the "
        "height of a step, not the sum: gradients come as activations go.",
        highlight=False,
    )
    if not answer.fitting:
        for line in _advice_lines(stage, asked, advise(asked)):
            here.err.print(line, soft_wrap=True, highlight=False)


def _advice_lines(stage: str, asked: Question, advice: Advice) -> list[str]:
    nearest = advice.nearest
    lines = [
        f"Nothing fits. Nearest is {nearest.memory.strategy}, {fmt.size(nearest.missing)} too much for a "
        f"device; one with {fmt.size(advice.device_memory)} would do."
    ]
    if advice.closest:
        best = advice.closest.fit
        options = _options(stage, asked, advice.closest.question) or "as asked"
        return [
            *lines,
            "Fewer rows of a pass, gradient checkpointing and more devices of this kind are not enough. "
            "Closest is",
            f"  {options}: {best.memory.strategy}, {fmt.size(best.missing)} too much for a device",
        ]
    return [*lines, "It fits with", *(_remedy_line(stage, asked, remedy) for remedy in advice.remedies)]


def _remedy_line(stage: str, asked: Question, remedy: Remedy) -> str:
    memory = remedy.fit.memory
    host = f", and {fmt.size(memory.host)} of host memory for each" if memory.host else ""
    size = fmt.size(remedy.fit.resident)
    return f"  {_options(stage, asked, remedy.question)}: {memory.strategy}, {size} a device{host}"


def _lines(asked: Question, answer: RunPlan) -> list[tuple[str, str]]:
    work, model = asked.work, asked.work.model
    parameters = f"{model.parameters:,}"
    if model.experts:
        parameters += f", of which a token uses {model.active_parameters:,}"
    lines = [
        ("parameters", parameters),
        (
            "batch",
            f"{asked.global_rows} rows of {work.length:,} tokens: {work.micro_rows} a forward pass, "
            f"{work.accumulation} × accumulated, {asked.devices} × {asked.device.name}, {work.precision}",
        ),
    ]
    if answer.steps is None:
        lines.append(("tokens", "unknown before the data are there; --tokens gives those of an epoch"))
    else:
        lines.append(("tokens", f"{asked.tokens:,} in {answer.steps:,} steps"))
    total = f"; {answer.flops:.3g} in all" if answer.flops else ""
    lines.append(("FLOPs", f"{answer.flops_per_token:,} a token{total}"))
    if answer.hours is not None and answer.device_hours is not None:
        cost = f", cost {answer.cost:,.2f}" if answer.cost is not None else ""
        lines.append(
            (
                "time",
                f"{fmt.hours(answer.hours)} h, {fmt.hours(answer.device_hours)} device-hours at "
                f"{asked.mfu:.0%} MFU{cost}",
            )
        )
    elif answer.flops:
        lines.append(("time", "unknown: the device has no peak; --teraflops gives it"))
    lines.append(
        (
            "checkpoint",
            f"{fmt.size(answer.weights_bytes)} of weights; {fmt.size(answer.resume_bytes)} to resume from",
        )
    )
    return lines
