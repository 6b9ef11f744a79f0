"""Documents that are long enough."""

import pyarrow as pa
import pyarrow.parquet as pq


def run(recipe, inputs, out, report):
    """Write documents.parquet and rejected.parquet."""
    rows = pq.read_table(inputs["corpus"].path / "documents.parquet").to_pylist()
    kept = [row for row in rows if row["bytes"] >= recipe.min_bytes]
    gone = [{**row, "step": "quality", "reason": "short"} for row in rows if row["bytes"] < recipe.min_bytes]
    report.metric(documents=len(kept))
    pq.write_table(pa.Table.from_pylist(kept), out / "documents.parquet")
    if gone:
        pq.write_table(pa.Table.from_pylist(gone), out / "rejected.parquet")
