"""What an asset's page shows of an artifact: identity, why it was computed or reused, metrics, plots, cost.

All of it comes from the manifest, so a reused artifact shows the same as on the day it was computed. Kept
small, because Dagster stores it in its event log with every materialization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from assets.plots import curves, intervals, markdown_image, sparkline
from codellm_dag.store import AttemptCost, Decision, Manifest

_ROW_COUNTS = ("documents", "problems", "examples", "samples", "rows")
_MOST_ROWS, _MOST_TEXT = 100, 400
_LINES_OF_REASONS = 12
_MOST_SPARKLINES = 4
_FIRST_SERIES = ("loss", "reward", "pass_rate", "kl")
_FIRST_COLUMNS = (
    "partition",
    "language",
    "benchmark",
    "level",
    "step",
    "source",
    "metric",
    "model",
    "value",
    "ci_low",
    "ci_high",
)
"""Columns shown first: a manifest keeps a row's columns in alphabetical order."""
_SHORT = 16
"""Hex digits of a digest in a table."""

Metadata = dict[str, Any]


def artifact_metadata(manifest: Manifest, decision: Decision, uri: str) -> Metadata:
    """Dagster metadata of one artifact, what a person looks for first at the top."""
    plot = curves(manifest.series)
    shown: Metadata = {
        "why": reasons_markdown(decision),
        **_sparklines(manifest),
        "curves": image(plot, f"{manifest.stage}: curves"),
        **{
            f"intervals: {name}": _interval_plot(name, rows) for name, rows in sorted(manifest.tables.items())
        },
        **{f"table: {name}": _table(rows) for name, rows in sorted(manifest.tables.items())},
        **{name: _scalar(value) for name, value in sorted(manifest.metrics.items())},
        "bytes": manifest.bytes,
        "cost": _table([_cost(cost) for cost in manifest.cost]),
        "inputs": _table(
            [
                {"slot": slot, "artifact": artifact.label, "content digest": artifact.content_digest[:_SHORT]}
                for slot, artifact in sorted(manifest.inputs.items())
            ]
        ),
        "content digest": manifest.content_digest,
        "fingerprint": manifest.fingerprint,
        "recipe": dg.MetadataValue.json(manifest.identity.get("recipe", {})),
        "dagster/uri": uri,
    }
    if rows := [manifest.metrics[name] for name in _ROW_COUNTS if name in manifest.metrics]:
        shown["dagster/row_count"] = int(rows[0])
    return {name: value for name, value in shown.items() if value is not None}


def _sparklines(manifest: Manifest) -> Metadata:
    """The first series as curves small enough for the UI to show them in place (below 1000 characters)."""
    shown: Metadata = {}
    for name in sorted(manifest.series, key=lambda name: _place(name, _FIRST_SERIES)):
        values = [value for _, value in manifest.series[name] if value is not None]
        plot = sparkline(manifest.series[name]) if len(set(values)) > 1 else None
        if plot and len(shown) < _MOST_SPARKLINES:
            text = f"{markdown_image(plot, name)} {values[0]:.4g} → {values[-1]:.4g}"
            shown[f"curve: {name}"] = dg.MetadataValue.md(text)
    return shown


def _place(name: str, first: Sequence[str]) -> tuple[int, str]:
    """Sorts the names in `first` to the front, in that order, and the others by name."""
    return (first.index(name) if name in first else len(first), name)


def image(svg: str | None, alt: str) -> dg.MetadataValue | None:
    """A plot as metadata; None for no plot."""
    return None if svg is None else dg.MetadataValue.md(markdown_image(svg, alt))


def _interval_plot(name: str, rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue | None:
    """A plot of a table that has the columns metric, value, ci_low and ci_high; None for any other."""
    return image(intervals(interval_rows(rows)), name)


def interval_rows(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, float, float, float]]:
    """What `plots.intervals` draws of score rows: those that have a value and an interval."""
    return [
        (str(row.get("model") or row["metric"]), row["value"], low, high)
        for row in rows
        if row.keys() >= {"metric", "value", "ci_low", "ci_high"}
        and isinstance(low := row["ci_low"], float)
        and isinstance(high := row["ci_high"], float)
    ]


def _cost(cost: AttemptCost) -> dict[str, Any]:
    """An attempt's cost as a row."""
    memory = cost.peak_memory_bytes
    return {
        "label": cost.label,
        "start": f"{cost.start:%Y-%m-%d %H:%M:%S}",
        "device seconds": round(cost.device_seconds, 1),
        "devices": cost.devices,
        "CPU seconds": None if cost.cpu_seconds is None else round(cost.cpu_seconds, 1),
        "peak MiB": None if memory is None else memory >> 20,
    }


def summary_metadata(outcomes: Mapping[str, tuple[Manifest, Decision]]) -> Metadata:
    """Metadata of a materialization that covers several partitions: one row each."""
    return {
        "partitions": _table(
            [
                {
                    "partition": key,
                    "action": decision.action,
                    "why": decision.reasons[0] if decision.reasons else "",
                    "content digest": manifest.content_digest[:_SHORT],
                    "bytes": manifest.bytes,
                    "device seconds": round(sum(cost.device_seconds for cost in manifest.cost), 1),
                }
                for key, (manifest, decision) in outcomes.items()
            ]
        )
    }


def reasons_markdown(decision: Decision) -> dg.MetadataValue:
    """ "computed" or "reused", and the reasons as a list."""
    shown = decision.reasons[:_LINES_OF_REASONS]
    more = len(decision.reasons) - len(shown)
    lines = [f"**{decision.action}**", "", *(f"- {reason}" for reason in shown)]
    return dg.MetadataValue.md("\n".join([*lines, *([f"- … and {more} more"] if more > 0 else [])]))


def _table(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue | None:
    """A table of scalars (columns in order of first appearance), at most 100 rows; None if empty."""
    if not rows:
        return None
    names = list(dict.fromkeys(name for row in rows for name in row))
    names = [
        *(name for name in _FIRST_COLUMNS if name in names),
        *(n for n in names if n not in _FIRST_COLUMNS),
    ]
    records = [dg.TableRecord({name: _cell(row.get(name)) for name in names}) for row in rows[:_MOST_ROWS]]
    columns = [dg.TableColumn(name, _column_type(name, records)) for name in names]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _cell(value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def _column_type(name: str, records: Sequence[dg.TableRecord]) -> str:
    kinds = {type(record.data[name]) for record in records} - {type(None)}
    return (
        {bool: "bool", int: "int", float: "float"}.get(kinds.pop(), "string") if len(kinds) == 1 else "string"
    )


def _scalar(value: float | int | str | bool) -> dg.MetadataValue:
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    return dg.MetadataValue.float(value) if isinstance(value, float) else dg.MetadataValue.text(value)
