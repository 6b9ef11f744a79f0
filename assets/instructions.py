"""Group instructions: chat examples from outside material, for `sft_data` to mix in or `sft_checkpoint` to
compare. In no run by default."""

from __future__ import annotations

import dagster as dg

from assets.partitions import DATASETS
from assets.stage_asset import Inputs, Requests, chosen, many, partition_of, recipe_of, stage_asset
from codellm_dag.problems.instruction_files import resolve, resolve_dataset
from codellm_dag.recipes.sft_sources import EditSequencesRecipe, ExecutedExamplesRecipe, InstructionDataRecipe
from codellm_dag.store import Artifact
from resources.io_manager import Artifacts


@stage_asset(group="instructions", owner="team:data", kinds={"json", "parquet"})
def doctest_functions(clean_corpus: Artifacts, benchmark_problems: Artifacts) -> Inputs:
    """Functions of the Python corpus whose docstring's examples are their tests: problems and chat
    examples."""
    corpus = partition_of("clean_corpus", clean_corpus, "python")
    return {"corpus": corpus, **many("benchmark", benchmark_problems)}


@stage_asset(
    group="instructions",
    owner="team:data",
    kinds={"parquet"},
    prepare=resolve,
    optional=("doctest_functions",),
)
def executed_examples(
    context: dg.AssetExecutionContext, benchmark_problems: Artifacts, doctest_functions: Artifact | None
) -> Inputs:
    """Instruction data of which only samples whose tests pass in the sandbox stay; the others with
    reasons."""
    benchmarks = many("benchmark", benchmark_problems)
    if recipe_of(context, ExecutedExamplesRecipe).path:
        return benchmarks
    made = chosen({"doctest_functions": doctest_functions}, ["doctest_functions"])
    return {"examples": made["doctest_functions"], **benchmarks}


@stage_asset(
    group="instructions",
    owner="team:data",
    kinds={"parquet"},
    optional=("doctest_functions", "executed_examples"),
)
def edit_sequences(
    context: dg.AssetExecutionContext,
    clean_corpus: Artifacts,
    benchmark_problems: Artifacts,
    doctest_functions: Artifact | None,
    executed_examples: Artifact | None,
) -> Inputs:
    """Programs as sequences of insertions that bring no error, sampled with a linter (LintSeq)."""
    benchmarks = many("benchmark", benchmark_problems)
    if recipe_of(context, EditSequencesRecipe).programs == "functions":
        return {"corpus": partition_of("clean_corpus", clean_corpus, "python"), **benchmarks}
    made = {"doctest_functions": doctest_functions, "executed_examples": executed_examples}
    there = {name: artifact for name, artifact in made.items() if artifact is not None}
    return {**many("examples", there), **benchmarks}


@stage_asset(
    group="instructions",
    owner="team:data",
    kinds={"parquet"},
    partitions=DATASETS,
    prepare=resolve_dataset,
    mappings={"benchmark_problems": dg.AllPartitionMapping()},
)
def instruction_data(recipe: InstructionDataRecipe, benchmark_problems: Artifacts) -> Requests:
    """Datasets of instructions as they are, each a partition; trials of `sft_checkpoint` compare them."""
    if not recipe.datasets:
        raise dg.Failure(
            description="instruction_data.datasets is empty; name datasets, or choose a preset that does "
            "(CODELLM_PRESET=sft-datasets)",
            allow_retries=False,
        )
    return {name: many("benchmark", benchmark_problems) for name in recipe.names()}
