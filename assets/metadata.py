"""What an asset's page shows of an artifact: identity, why it was computed or reused, metrics, plots, cost.

All of it comes from the manifest, so a reused artifact shows the same as on the day it was computed. Kept
small, because Dagster stores it in its event log with every materialization.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from assets.plots import curves, markdown_image
from codellm_dag.store import Decision, Manifest

_ROW_COUNTS = ("documents", "problems", "examples", "samples", "rows")
_MOST_ROWS, _MOST_TEXT = 100, 400
_LINES_OF_REASONS = 12

Metadata = dict[str, Any]


def artifact_metadata(manifest: Manifest, decision: Decision, uri: str) -> Metadata:
    """Dagster metadata of one artifact, for the materialization of one partition or of a whole asset."""
    shown: Metadata = {
        "why": reasons_markdown(decision),
        "content digest": manifest.content_digest,
        "fingerprint": manifest.fingerprint,
        "dagster/uri": uri,
        "bytes": manifest.bytes,
        "inputs": _table(
            [
                {"slot": slot, "artifact": artifact.label, "content digest": artifact.content_digest}
                for slot, artifact in sorted(manifest.inputs.items())
            ]
        ),
        "recipe": dg.MetadataValue.json(manifest.identity.get("recipe", {})),
        "cost": _table([cost.model_dump(mode="json") for cost in manifest.cost]),
        **{name: _scalar(value) for name, value in sorted(manifest.metrics.items())},
        **{f"table: {name}": _table(rows) for name, rows in sorted(manifest.tables.items())},
    }
    if (
        rows := next((manifest.metrics[name] for name in _ROW_COUNTS if name in manifest.metrics), None)
    ) is not None:
        shown["dagster/row_count"] = int(rows)
    if plot := curves(manifest.series):
        shown["curves"] = dg.MetadataValue.md(markdown_image(plot, f"{manifest.stage}: curves"))
    return {name: value for name, value in shown.items() if value is not None}


def summary_metadata(outcomes: Mapping[str, tuple[Manifest, Decision]]) -> Metadata:
    """Metadata of a materialization that covers several partitions: one row each."""
    return {
        "partitions": _table(
            [
                {
                    "partition": key,
                    "action": decision.action,
                    "why": decision.reasons[0] if decision.reasons else "",
                    "content digest": manifest.content_digest[:16],
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
