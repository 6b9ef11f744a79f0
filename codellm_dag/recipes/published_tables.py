"""Published tables that own results are put beside: data with their source, in the folder ``published``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from codellm_dag.recipes.base import InvalidRecipeError

_FOLDER = Path(__file__).parent / "published"


class PublishedTable(BaseModel):
    """One table: what was the same for all rows, and the rows; ``source`` says where it was published."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    source: str
    setting: dict[str, Any]
    rows: list[dict[str, Any]] = Field(min_length=1)


@cache
def published_tables(document: str) -> dict[str, PublishedTable]:
    """The tables of a document, e.g. ``sft_guide``, by name. Raises InvalidRecipeError for one not there."""
    path = _FOLDER / f"{document}.yaml"
    if not path.is_file():
        there = ", ".join(sorted(path.stem for path in _FOLDER.glob("*.yaml")))
        raise InvalidRecipeError(f"published tables {document!r} do not exist; allowed: {there}")
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        name: PublishedTable(source=loaded["source"], **table) for name, table in loaded["tables"].items()
    }
