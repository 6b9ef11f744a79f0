"""The one file of chat data: ``train.parquet``, and the columns that all chat data has."""

from __future__ import annotations

import pyarrow as pa

DATA_FILE = "train.parquet"

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])

SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()),
        ("template", pa.string()),
        ("messages", pa.list_(_MESSAGE)),
        ("language", pa.string()),
    ]
)
