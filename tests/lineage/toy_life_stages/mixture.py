"""Training and held-out documents."""

import pyarrow as pa
import pyarrow.parquet as pq


def run(recipe, inputs, out, report):
    """Write train.parquet and heldout.parquet."""
    rows = [
        row
        for corpus in inputs.many("corpus").values()
        for row in pq.read_table(corpus.path / "documents.parquet").to_pylist()
    ]
    report.metric(documents=len(rows))
    every = recipe.heldout_every
    schema = pa.Table.from_pylist(rows).schema
    for name, chosen in (
        ("train", [row for index, row in enumerate(rows) if index % every]),
        ("heldout", [row for index, row in enumerate(rows) if not index % every]),
    ):
        pq.write_table(pa.Table.from_pylist(chosen, schema=schema), out / f"{name}.parquet")
