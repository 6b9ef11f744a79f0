"""Group experiments: studies of the training itself, each with a report. No part of the life cycle's job."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from assets.checkpoints import examples_of
from assets.metadata import image
from assets.partitions import FRAMEWORKS, LANGUAGES
from assets.plots import overlaid
from assets.scaling_plots import batch_plot, growth_plot, law_plot
from assets.stage_asset import GPU_POOL, Inputs, Requests, chosen, many, partition_of, stage_asset
from codellm_dag.launch.identity import check_recipe
from codellm_dag.recipes.frameworks import FrameworkReportRecipe, FrameworksRecipe
from codellm_dag.stages.registry import STAGES
from codellm_dag.store import Artifact
from codellm_dag.training.environments.available import check_available
from resources.io_manager import Artifacts

_ALL = dg.AllPartitionMapping()
_experiment = partial(stage_asset, group="experiments", owner="team:models")
_study = partial(_experiment, kinds={"pytorch"}, mappings={"token_shards": _ALL}, pool=GPU_POOL)


def _report(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@_experiment(kinds={"pytorch"}, partitions=LANGUAGES, pool=GPU_POOL)
def scaling_ladder(tokenizer: Artifact, token_shards: Artifacts, mixture: Artifact) -> Requests:
    """Small models pretrained on one language, on a grid of sizes and tokens, and one larger, held out."""
    return {
        language: {"tokenizer": tokenizer, "shards": shards, "corpus": mixture}
        for language, shards in token_shards.items()
    }


def _law_plots(folder: Path) -> dict[str, dg.MetadataValue | None]:
    """A plot a language: the points, and the law's curve of each size."""
    languages = _report(folder)["languages"]
    return {
        f"law: {one['language']}": image(law_plot(one), f"scaling law of {one['language']}")
        for one in languages
    }


@_experiment(kinds={"json"}, show=_law_plots)
def scaling_report(scaling_ladder: Artifacts) -> Inputs:
    """The scaling law of every language, with intervals, and how far off it is for the run held out."""
    return many("ladder", scaling_ladder)


def _warmup_plots(folder: Path) -> dict[str, dg.MetadataValue | None]:
    """Held-out loss over tokens and over steps: the first seed's three runs."""
    curves = _report(folder)["curves"][0]
    return {
        f"loss over {unit}": image(
            overlaid(
                f"held-out loss over {unit}",
                {name: [(int(point[column]), point[2]) for point in curve] for name, curve in curves.items()},
            ),
            f"loss over {unit}",
        )
        for column, unit in enumerate(("tokens", "steps"))
    }


def _critical_batch_plots(folder: Path) -> dict[str, dg.MetadataValue | None]:
    found = _report(folder)
    return {"loss by batch": image(batch_plot(found["branchings"]), "loss of branches by their batch")}


@_study(show=_critical_batch_plots)
def critical_batch_size(token_shards: Artifacts) -> Inputs:
    """How large a batch may be before it costs tokens, measured by branches over the course of a run."""
    return many("shards", token_shards)


@_study(show=_warmup_plots)
def batch_warmup(token_shards: Artifacts) -> Inputs:
    """A small batch, a large one and one that grows: steps and tokens to a loss, at equal tokens."""
    return many("shards", token_shards)


@_study()
def mixture_trials(tokenizer: Artifact, token_shards: Artifacts, mixture: Artifact) -> Inputs:
    """The planned mixture of languages against equal shares, in bits per byte of each language."""
    return {"tokenizer": tokenizer, "corpus": mixture, **many("shards", token_shards)}


def _growth_plots(folder: Path) -> dict[str, dg.MetadataValue | None]:
    found = _report(folder)
    return {"loss by tokens": image(growth_plot(found), "loss of grown models and from scratch")}


@_study(show=_growth_plots)
def model_growth(token_shards: Artifacts) -> Inputs:
    """A small model, stacked or widened and trained on, beside the large shape from scratch."""
    return many("shards", token_shards)


@_experiment(
    kinds={"huggingface", "pytorch"},
    partitions=FRAMEWORKS,
    mappings={"instruction_data": _ALL},
    optional=("pretrained_checkpoint", "base_checkpoint", "sft_data"),
    verify=True,
    pool=GPU_POOL,
)
def framework_checkpoint(
    context: dg.AssetExecutionContext,
    recipe: FrameworksRecipe,
    pretrained_checkpoint: Artifact | None,
    base_checkpoint: Artifact | None,
    sft_data: Artifact | None,
    instruction_data: Artifacts,
) -> Requests:
    """One fine-tuning recipe, run by each backend that it lists: an artifact each.

    So the manifest says which framework and version made a checkpoint, one that fails leaves the others'
    results alone, and another one is added without training those there are again. What one of them cannot
    express is refused before the first starts, and on this machine a backend whose packages are not there.
    """
    here = context.resources.launcher.runtime("framework_checkpoint").kubernetes is None
    listed = [backend.name for backend in recipe.backends]
    for name in [context.partition_key] if context.has_partition_key else listed:
        part = recipe.for_partition(name)
        check_recipe(STAGES["framework_checkpoint"], part)
        if here:
            check_available(part.training.backend)
    made = {"pretrained_checkpoint": pretrained_checkpoint, "base_checkpoint": base_checkpoint}
    base = recipe.training.base
    data = examples_of(recipe.training, sft_data, instruction_data)
    inputs = {"checkpoint": chosen(made, [base])[base], "data": data}
    return dict.fromkeys(listed, inputs)


def _framework_plots(folder: Path) -> dict[str, dg.MetadataValue | None]:
    """The losses of all frameworks on one plot."""
    frameworks = _report(folder)["frameworks"]
    losses = {name: one["loss"] for name, one in frameworks.items()}
    return {"losses": image(overlaid("training loss over steps", losses), "training loss of each framework")}


@_experiment(
    kinds={"json"},
    mappings={"benchmark_problems": _ALL},
    show=_framework_plots,
    pool=GPU_POOL,
)
def sft_frameworks(
    context: dg.AssetExecutionContext,
    recipe: FrameworkReportRecipe,
    framework_checkpoint: Artifacts,
    mixture: Artifact,
    benchmark_problems: Artifacts,
) -> Inputs:
    """Loss, speed, memory and scores of every framework's checkpoint, side by side."""
    if not framework_checkpoint:
        raise dg.Failure(
            description="framework_checkpoint was never made; materialize its partitions first",
            allow_retries=False,
        )
    names = recipe.backends or tuple(framework_checkpoint)
    first = partition_of("framework_checkpoint", framework_checkpoint, names[0])
    return {
        **many("checkpoint", framework_checkpoint),
        "start": context.resources.store.open().manifest(first).inputs["checkpoint"],
        "corpus": mixture,
        "problems": partition_of("benchmark_problems", benchmark_problems, "microbench"),
    }
