"""Documents of the folders, below $TOY_SOURCES, that a recipe names."""

import hashlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def run(recipe, inputs, out, report):
    """Write documents.parquet."""
    del inputs
    rows = []
    for source in recipe.sources:
        for path in sorted((Path(os.environ["TOY_SOURCES"]) / source.path).glob("*.py")):
            text = path.read_text()
            rows.append(
                {
                    "document_id": hashlib.sha256(text.encode()).hexdigest(),
                    "text": text,
                    "language": "python",
                    "path": path.name,
                    "source": source.name,
                    "licence": source.licence,
                    "bytes": len(text.encode()),
                }
            )
    report.progress(len(rows), len(rows), "documents")
    report.metric(documents=len(rows))
    pq.write_table(pa.Table.from_pylist(rows), out / "documents.parquet")
