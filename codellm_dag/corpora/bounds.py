"""Did a cleaning remove more than is plausible? What the blocking asset check calls on ``steps.json``.

A broken licence column, a filter with a wrong unit or a near deduplication that runs wild shows as a removal
rate far from the usual. The bounds (`RemovalBounds`) change no result, so they are in no fingerprint: a bound
can be moved without cleaning again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codellm_dag.corpora.errors import CorpusError
from codellm_dag.recipes.removal_bounds import ExampleBounds, RemovalBounds


@dataclass(frozen=True)
class Removal:
    """A removal rate beyond its bound. ``source`` is 'all' for the language as a whole; rates are 0 to 1."""

    step: str
    source: str
    measure: str
    rate: float
    bound: float
    recipe: str = "RemovalBounds"

    def __str__(self) -> str:
        return (
            f"{self.step} removed {self.rate:.1%} of the {self.measure} of {self.source}, at most "
            f"{self.bound:.1%} is plausible; look at rejected.parquet, then mend the source or raise "
            f"{self.recipe}.{self.step}"
        )


def read_steps(path: Path) -> dict[str, Any]:
    """The counts of a cleaning from its ``steps.json``; raises CorpusError when it is not one."""
    try:
        steps = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: not the steps.json of a clean corpus ({error})") from error
    if not isinstance(steps, dict) or not {"steps", "total"} <= steps.keys():
        raise CorpusError(f"{path}: not the steps.json of a clean corpus (it has no 'steps' and 'total')")
    return steps


def implausible_removals(
    steps: Mapping[str, Any], bounds: RemovalBounds | ExampleBounds | None = None
) -> list[Removal]:
    """Every removal rate of ``steps`` that is beyond its bound, in the order of steps and sources.

    Documents and bytes are judged, for the language and for each source of at least ``min_documents``. An
    empty list means that the cleaning is plausible.
    """
    bounds = bounds or RemovalBounds()
    found: list[Removal] = []
    for entry in [*steps["steps"], {"step": "total", **steps["total"]}]:
        bound = getattr(bounds, entry["step"])
        for source, count in {"all": entry, **entry["sources"]}.items():
            if source == "all" or count["documents_in"] >= bounds.min_documents:
                found.extend(
                    Removal(entry["step"], source, measure, rate, bound, type(bounds).__name__)
                    for measure, rate in _rates(count)
                    if rate > bound
                )
    return found


def _rates(count: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for measure in ("documents", "bytes"):
        given = count[f"{measure}_in"]
        yield measure, 1 - count[f"{measure}_out"] / given if given else 0.0
