"""What `stage_asset` knows of an asset and `materialize` and `events` use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from codellm_dag.recipes import Recipe
from codellm_dag.stages.registry import Stage
from codellm_dag.store import Artifact

Inputs = Mapping[str, Artifact]
"""A stage's inputs by slot; the slot ``name/*`` has names ``name/key``."""
Requests = Mapping[str, Inputs]
"""The inputs of every partition, by the store's key of it."""


@dataclass(frozen=True)
class Plan:
    """An asset: its stage, the decorated function, and the arguments of `stage_asset`."""

    stage: Stage
    body: Callable[..., Inputs | Requests]
    partitions: dg.PartitionsDefinition | None
    prepare: Callable[[Any, str], Recipe]
    model: str | None
    show: Callable[[Path], Mapping[str, Any]] | None
    verify: bool
    takes_context: bool
    takes_recipe: bool
