"""``@stage_asset``: a Dagster asset around one stage of the registry.

The decorated function says only what the stage is given: its parameters are upstream assets, and it returns
the stage's inputs by slot (`Inputs`), or those of every partition (`Requests`). For an asset partitioned by
trial it returns one `Inputs`, those of the trial. It may take the recipe, too, as the parameter ``recipe``: a
trial's own, else the run's. Name, artifact kind, recipe and code version come from the registry, the
description from the docstring. What happens then is `materialize.py`.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from assets.config import asset_recipe_default, config_schema
from assets.events import IS_WHOLE
from assets.materialize import run_stage
from assets.partitions import TRIALS, trial_recipe
from assets.plan import Inputs, Plan, Requests
from codellm_dag.recipes import Recipe
from codellm_dag.stages.registry import STAGES, Stage
from codellm_dag.store import Artifact, code_digest
from resources.io_manager import OPTIONAL, PARTITIONED, Artifacts

__all__ = [
    "GPU_POOL",
    "Inputs",
    "Requests",
    "chosen",
    "input_keys",
    "many",
    "partition_of",
    "recipe_of",
    "stage_asset",
]

_ARTIFACTS = dg.DagsterType(
    name="Artifacts",
    description="A reference to an artifact, or references by partition.",
    type_check_fn=lambda _, __: True,
)
"""Without a type of its own, Dagster takes an asset with checks for one that hands on nothing."""
_WHOLE = "Every file of a reused artifact, hashed again, has the digest that was committed."

GPU_POOL = "gpu"
"""Concurrency pool of the stages that train or sample; `dagster instance concurrency set gpu N` limits it."""

R = TypeVar("R", bound=Recipe)
Prepare = Callable[[Any, str], Recipe]


def stage_asset(
    *,
    group: str,
    owner: str,
    kinds: Iterable[str],
    partitions: dg.PartitionsDefinition | None = None,
    mappings: Mapping[str, dg.PartitionMapping] | None = None,
    prepare: Prepare | None = None,
    model: str | None = None,
    show: Callable[[Path], Mapping[str, Any]] | None = None,
    verify: bool = False,
    automation: dg.AutomationCondition | None = None,
    pool: str | None = None,
    stage: Stage | None = None,
    optional: Collection[str] = (),
) -> Callable[[Callable[..., Inputs | Requests]], dg.AssetsDefinition]:
    """Make the decorated function the asset of the stage with its name.

    - `mappings`: partition mappings of upstream assets that differ from Dagster's default
    - `prepare`: the recipe of one partition (default: the trial's changes, or ``recipe.for_partition``)
    - `model`: what the asset makes is a model of this name, to be evaluated
    - `show`: from the artifact's folder to metadata that its manifest does not hold
    - `verify`: hash what is reused again, as the blocking check is_whole
    - `automation`: when Dagster should materialize it by itself, if its automation sensor is on
    - `pool`: the concurrency pool it takes a slot of; unlimited until the instance sets a limit
    - `stage`: the stage, if not the registry's of that name
    - `optional`: upstream assets that may never have been made; the parameter is None then
    """

    def decorate(body: Callable[..., Inputs | Requests]) -> dg.AssetsDefinition:
        row = stage or STAGES[body.__name__]
        default = asset_recipe_default(row)
        parameters = inspect.signature(body).parameters
        plan = Plan(
            stage=row,
            body=body,
            partitions=partitions,
            prepare=prepare or _default_prepare(partitions),
            model=model,
            show=show,
            verify=verify,
            takes_context="context" in parameters,
            takes_recipe="recipe" in parameters,
        )

        def compute(
            context: dg.AssetExecutionContext, **inputs: Artifact | Artifacts
        ) -> dg.MaterializeResult:
            return run_stage(context, plan, inputs)

        return dg.asset(
            name=row.name,
            description=inspect.getdoc(body),
            group_name=group,
            owners=[owner],
            kinds={"python", *kinds},
            tags={"artifact": row.kind},
            metadata={PARTITIONED: partitions is not None, "stage": f"{row.module}.run"},
            ins={
                name: dg.AssetIn(
                    partition_mapping=(mappings or {}).get(name),
                    metadata={OPTIONAL: True} if name in optional else None,
                )
                for name in parameters
                if name not in ("context", "recipe")
            },
            partitions_def=partitions,
            automation_condition=automation,
            pool=pool,
            check_specs=[dg.AssetCheckSpec(IS_WHOLE, asset=row.name, description=_WHOLE, blocking=True)]
            if verify
            else None,
            config_schema=config_schema(default),
            required_resource_keys={"store", "launcher"},
            io_manager_key="artifacts",
            dagster_type=_ARTIFACTS,
            code_version=code_digest(row.module, *default.chosen_modules()).digest[:16],
        )(compute)

    return decorate


def _default_prepare(partitions: dg.PartitionsDefinition | None) -> Prepare:
    if partitions is None:
        return lambda recipe, _: recipe
    return trial_recipe if partitions is TRIALS else lambda recipe, key: recipe.for_partition(key)


def many(slot: str, artifacts: Mapping[str, Artifact]) -> Inputs:
    """The artifacts of a slot that takes many: ``{"slot/key": artifact}``."""
    return {f"{slot}/{key}": artifact for key, artifact in artifacts.items()}


def partition_of(asset: str, artifacts: Mapping[str, Artifact], key: str) -> Artifact:
    """One partition of an upstream asset. Raises Failure, naming those there are, if it was never made."""
    if key not in artifacts:
        raise dg.Failure(
            description=f"{asset} has no partition {key!r} yet (there: {', '.join(artifacts) or 'none'}); "
            f"materialize partition {key!r} of {asset} first",
            allow_retries=False,
        )
    return artifacts[key]


def chosen(artifacts: Mapping[str, Artifact | None], names: Iterable[str]) -> dict[str, Artifact]:
    """Those of the optional upstream artifacts that a recipe names. Raises Failure for one never made."""
    found: dict[str, Artifact] = {}
    for name in names:
        artifact = artifacts[name]
        if artifact is None:
            raise dg.Failure(
                description=f"the recipe names {name}, which was never made; materialize {name} first",
                allow_retries=False,
            )
        found[name] = artifact
    return found


def recipe_of(context: dg.AssetExecutionContext, recipe_class: type[R]) -> R:
    """The asset's whole recipe as this run configures it."""
    return recipe_class.parse(context.op_execution_context.op_config)


def input_keys(context: dg.AssetExecutionContext, artifact: Artifact, slot: str) -> list[str]:
    """The keys with which `artifact` itself was given a slot that takes many, e.g. a mixture's languages."""
    inputs = context.resources.store.open().manifest(artifact).inputs
    return [name.removeprefix(f"{slot}/") for name in inputs if name.startswith(f"{slot}/")]
