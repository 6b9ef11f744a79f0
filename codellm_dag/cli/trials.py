"""``codellm-dag trials``: every attempt that was ever made, the failed ones too."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from codellm_dag.cli import format as fmt
from codellm_dag.cli.session import (
    DEFAULT_STORE,
    DebugOption,
    JsonOption,
    Session,
    StoreOption,
    escape,
    session,
)
from codellm_dag.lineage.graph import label
from codellm_dag.lineage.names import place
from codellm_dag.lineage.trials import list_trials
from codellm_dag.store import Attempt


def trials(
    asset: Annotated[str, typer.Option(help="Only this asset.")] = "",
    ended: Annotated[
        str,
        typer.Option("--label", help="Only attempts that ended so: failed, or ok, oom, diverged, killed, …"),
    ] = "",
    last: Annotated[int, typer.Option(min=0, metavar="N", help="Only the last so many; 0: all.")] = 0,
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Every attempt that was made, failures included.

    [bold]Examples[/]

    codellm-dag trials --label failed

    codellm-dag trials --asset rl_policy --last 20
    """
    with session(store, as_json=as_json, debug=debug) as here:
        rows = list_trials(here.store, asset, ended, last)
        if as_json:
            here.json({"store": here.store.url, "trials": [_json(row) for row in rows]})
        elif rows:
            _print(here, rows)
        else:
            here.err.print(
                f"no attempt in {place(here.store)} fits; `codellm-dag trials` lists all", soft_wrap=True
            )
        if not rows:
            here.no()


def _json(row: Attempt) -> dict[str, Any]:
    values = row.model_dump(mode="json", exclude={"schema_version"})
    return {**values, "seconds": (row.end - row.start).total_seconds()}


def _print(here: Session, rows: list[Attempt]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
    table.add_column("started", style="dim", no_wrap=True)
    table.add_column("asset", overflow="fold")
    table.add_column("ended", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    table.add_column("dev-h", justify="right", no_wrap=True)
    table.add_column("memory", justify="right", no_wrap=True)
    table.add_column("fingerprint", style="dim", no_wrap=True)
    for row in rows:
        memory = fmt.size(row.peak_memory_bytes) if row.peak_memory_bytes else "–"
        table.add_row(
            f"{row.start.astimezone():%m-%d %H:%M:%S}",
            escape(label(row.asset, row.partition)),
            Text(row.label, style="green" if row.label == "ok" else "red"),
            fmt.duration((row.end - row.start).total_seconds()),
            fmt.hours(row.device_seconds / 3600),
            memory,
            fmt.digest(row.fingerprint),
        )
    here.out.print(table)
    failed = [row for row in rows if row.label != "ok"]
    if failed:
        here.out.print("\n[bold]Failures[/]")
    for row in failed:
        why = (row.error or "no message").strip().splitlines()[0]
        here.out.print(
            Text.assemble(
                f"  {label(row.asset, row.partition)}  ",
                (row.label, "red"),
                f": {why}",
                (f"  {row.start.astimezone():%m-%d %H:%M:%S}", "dim"),
            )
        )
    hours = sum(row.device_seconds for row in rows) / 3600
    here.out.print(f"\n[dim]{len(rows)} attempts, {len(failed)} failed, {fmt.hours(hours)} device-hours[/]")
