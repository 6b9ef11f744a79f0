"""``codellm-dag scores``: every number with its uncertainty and its cost."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from codellm_dag.cli.format import hours, interval, number
from codellm_dag.cli.session import (
    DEFAULT_STORE,
    DebugOption,
    JsonOption,
    Session,
    StoreOption,
    escape,
    nothing_yet,
    session,
)
from codellm_dag.lineage.cost import DeviceHours, device_hours
from codellm_dag.lineage.graph import Node
from codellm_dag.lineage.scores import Score, list_scores, score_root
from codellm_dag.store import Store

_WIDE = 92
"""Columns from which there is room for all columns of the table."""


def scores(
    store: StoreOption = DEFAULT_STORE,
    benchmark: Annotated[str, typer.Option(help="Only this benchmark.")] = "",
    model: Annotated[str, typer.Option(help="Only this model, with its trials.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Also those that a later run replaced.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """The leaderboard: every number with its interval and cost.

    [bold]Examples[/]

    codellm-dag scores

    codellm-dag scores --benchmark microbench --all
    """
    with session(store, as_json=as_json, debug=debug) as here:
        found = list_scores(here.store)
        chosen = [row for row in found if _fits(row, benchmark, model) and (every or row.current)]
        costs = costs_of(here.store, chosen)
        if as_json:
            here.json(
                {
                    "store": here.store.url,
                    "scores": [score_json(row, costs[row.report_id]) for row in chosen],
                }
            )
        elif chosen:
            here.out.print(_table(chosen, costs, here.out.width))
            _footnotes(here, found, chosen)
        else:
            here.err.print(_why_none(here.store, found), soft_wrap=True)
        if not chosen:
            here.no()


def score_json(score: Score, cost: DeviceHours | None) -> dict[str, Any]:
    """A score as ``--json`` gives it everywhere."""
    values: dict[str, Any] = asdict(score)
    values |= {"created": score.created.isoformat(), "updated": score.updated.isoformat()}
    if cost is not None:
        values["device_hours"] = cost_json(cost)
    return values


def cost_json(cost: DeviceHours) -> dict[str, Any]:
    """Device-hours as ``--json`` gives them; what they mean is told in `codellm_dag/lineage/cost.py`."""
    return {**asdict(cost), "total": cost.total}


def costs_of(store: Store, rows: list[Score]) -> dict[str, DeviceHours]:
    """The device-hours of each report, by its id."""
    known: dict[str, Node] = {}
    reports = {row.report_id: row for row in rows}
    return {name: device_hours(score_root(store, row, known)) for name, row in reports.items()}


def _fits(score: Score, benchmark: str, model: str) -> bool:
    return benchmark in ("", score.benchmark) and model in ("", score.model, score.model.partition("@")[0])


def _table(rows: list[Score], costs: dict[str, DeviceHours], width: int) -> Table:
    """A row for each score; where room is scarce, the benchmark is a title instead of a column."""
    narrow = width < _WIDE
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
    table.add_column("score", style="cyan", no_wrap=True)
    if not narrow:
        table.add_column("benchmark", no_wrap=True)
    table.add_column("model", no_wrap=True)
    trials = any(row.trial != "base" for row in rows)
    if trials:
        table.add_column("trial", overflow="fold")
    table.add_column("value", justify="right", style="bold", no_wrap=True)
    table.add_column(_interval_title(rows), no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("dev-h", justify="right", no_wrap=True)
    last: tuple[str, str] = ("", "")
    for row in rows:
        if last not in (("", ""), (row.benchmark, row.metric)):
            table.add_section()
        if narrow and row.benchmark != last[0]:
            table.add_row(Text(row.benchmark, style="bold"))
        last = (row.benchmark, row.metric)
        table.add_row(
            row.id,
            *([] if narrow else [row.benchmark]),
            escape(row.model.partition("@")[0]),
            *([escape(row.trial)] if trials else []),
            number(row.value),
            interval(row),
            str(row.n or "–"),
            hours(costs[row.report_id].model),
            style="" if row.current else "dim",
        )
    return table


def _interval_title(rows: list[Score]) -> str:
    levels = {row.confidence for row in rows if row.confidence}
    return f"{100 * levels.pop():g} % interval" if len(levels) == 1 else "interval"


def _footnotes(here: Session, found: list[Score], chosen: list[Score]) -> None:
    here.out.print()
    inside = [row for row in chosen if row.judged_inside]
    if inside:
        share = max(row.judged_inside for row in inside)
        ids = ", ".join(sorted({row.report_id for row in inside}))
        here.out.print(f"Judged inside the sandbox, so forgeable: up to {share:.0%} of the samples of {ids}.")
    if any(row.model != row.computed_as for row in chosen):
        here.out.print("An id with ':model': the samples, hence the report, are those of another model too.")
    errors = sum(row.infrastructure_errors for row in chosen)
    if errors:
        here.out.print(f"Without a verdict (infrastructure errors), left out: {errors} samples.")
    older = sum(not row.current for row in found)
    if older and len(chosen) < len(found):
        here.out.print(
            f"[dim]{older} scores of earlier runs: {here.command('scores --all')}[/]", soft_wrap=True
        )
    here.out.print("[dim]dev-h: device-hours of training the model; data and evaluation are not in it.[/]")


def _why_none(store: Store, found: list[Score]) -> str:
    if not found:
        return nothing_yet(store)
    names = ", ".join(sorted({f"{row.benchmark} of {row.model}" for row in found}))
    return f"no score fits; there are: {escape(names)}"
