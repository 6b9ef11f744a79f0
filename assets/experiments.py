"""Group experiments: studies of the training itself, each with a report. No part of the life cycle's job."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg

from assets.metadata import image
from assets.partitions import LANGUAGES
from assets.scaling_plots import law_plot
from assets.stage_asset import GPU_POOL, Inputs, Requests, many, stage_asset
from codellm_dag.store import Artifact
from resources.io_manager import Artifacts


@stage_asset(group="experiments", owner="team:models", kinds={"pytorch"}, partitions=LANGUAGES, pool=GPU_POOL)
def scaling_ladder(tokenizer: Artifact, token_shards: Artifacts, mixture: Artifact) -> Requests:
    """Small models pretrained on one language, on a grid of sizes and tokens, and one larger, held out."""
    return {
        language: {"tokenizer": tokenizer, "shards": shards, "corpus": mixture}
        for language, shards in token_shards.items()
    }


def _law_plots(folder: Path) -> dict[str, dg.MetadataValue | None]:
    """A plot a language: the points, and the law's curve of each size."""
    languages = json.loads((folder / "report.json").read_text(encoding="utf-8"))["languages"]
    return {
        f"law: {one['language']}": image(law_plot(one), f"scaling law of {one['language']}")
        for one in languages
    }


@stage_asset(group="experiments", owner="team:models", kinds={"json"}, show=_law_plots)
def scaling_report(scaling_ladder: Artifacts) -> Inputs:
    """The scaling law of every language, with intervals, and how far off it is for the run held out."""
    return many("ladder", scaling_ladder)


_ALL = dg.AllPartitionMapping()


@stage_asset(
    group="experiments",
    owner="team:models",
    kinds={"pytorch"},
    mappings={"token_shards": _ALL},
    pool=GPU_POOL,
)
def critical_batch_size(token_shards: Artifacts) -> Inputs:
    """How large a batch may be before it costs tokens, measured by branches over the course of a run."""
    return many("shards", token_shards)


@stage_asset(
    group="experiments",
    owner="team:models",
    kinds={"pytorch"},
    mappings={"token_shards": _ALL},
    pool=GPU_POOL,
)
def model_growth(token_shards: Artifacts) -> Inputs:
    """A small model, stacked or widened and trained on, beside the large shape from scratch."""
    return many("shards", token_shards)
