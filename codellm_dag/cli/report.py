"""``codellm-dag report``: metrics and tables of an artifact, those that Dagster shows, as text or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
from codellm_dag.lineage.names import find_artifact
from codellm_dag.store import Manifest, Store

REPORT_FILE = "report.json"


def report(
    what: Annotated[
        str, typer.Argument(metavar="WHAT", help=r"asset, asset\[partition], a score id or a fingerprint.")
    ],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    r"""The metrics and tables of what an asset is now, or of any artifact.

    [bold]Examples[/]

    codellm-dag report sft_frameworks

    codellm-dag report scaling_report --json | jq .report.languages

    codellm-dag report 'framework_checkpoint\[trainer]'
    """
    with session(store, as_json=as_json, debug=debug) as here:
        manifest = here.store.manifest(find_artifact(here.store, what))
        if as_json:
            here.json(_json(here.store, manifest))
        else:
            _print(here, manifest)


def _json(store: Store, manifest: Manifest) -> dict[str, Any]:
    return {
        "store": store.url,
        "asset": manifest.name,
        "partition": manifest.partition,
        "stage": manifest.stage,
        "kind": manifest.kind,
        "fingerprint": manifest.fingerprint,
        "content_digest": manifest.content_digest,
        "created": manifest.created.isoformat(),
        "metrics": manifest.metrics,
        "tables": manifest.tables,
        "report": _report_file(store, manifest),
    }


def _report_file(store: Store, manifest: Manifest) -> Any:
    """What the artifact's ``report.json`` holds; None if it has none."""
    if not any(output.path == REPORT_FILE for output in manifest.outputs):
        return None
    return json.loads((store.local_path(manifest.artifact) / REPORT_FILE).read_text(encoding="utf-8"))


def _print(here: Session, manifest: Manifest) -> None:
    title = f"  {fmt.digest(manifest.fingerprint)}, {manifest.created.astimezone():%Y-%m-%d %H:%M:%S}"
    here.out.print(Text.assemble((label(manifest.name, manifest.partition), "bold"), (title, "dim")))
    for name, value in sorted(manifest.metrics.items()):
        here.out.print(Text(f"  {name}  {_cell(value)}"), soft_wrap=True)
    for name, rows in sorted(manifest.tables.items()):
        here.out.print(Text(f"\n{name}", style="bold"))
        here.out.print(_table(rows))


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """All columns that any row has, those of text first."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
    columns = dict.fromkeys(name for row in rows for name in row)
    numbers = {name: any(isinstance(row.get(name), int | float) for row in rows) for name in columns}
    ordered = sorted(columns, key=lambda name: numbers[name])
    for name in ordered:
        table.add_column(escape(name), justify="right" if numbers[name] else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(row.get(name))) for name in ordered))
    return table


def _cell(value: Any) -> str:
    return "–" if value is None else fmt.value(value)
