"""Group policies: problems with hidden tests, and reinforcement learning on them by trial."""

from __future__ import annotations

import dagster as dg

from assets.partitions import BASE_TRIAL, TRIALS
from assets.stage_asset import GPU_POOL, Inputs, many, partition_of, stage_asset
from codellm_dag.store import Artifact
from resources.io_manager import Artifacts


@stage_asset(group="policies", owner="team:data", kinds={"json"})
def rl_problems(benchmark_problems: Artifacts) -> Inputs:
    """Problems with tests that the model never sees, from templates that no benchmark holds out."""
    return many("benchmark", benchmark_problems)


@stage_asset(
    group="policies",
    owner="team:models",
    kinds={"huggingface", "pytorch"},
    partitions=TRIALS,
    model="rl",
    mappings={"sft_checkpoint": dg.SpecificPartitionsPartitionMapping([BASE_TRIAL])},
    verify=True,
    pool=GPU_POOL,
)
def rl_policy(sft_checkpoint: Artifacts, rl_problems: Artifact) -> Inputs:
    """The fine-tuned model (its base trial) improved by rewards from sandboxed tests."""
    start = partition_of("sft_checkpoint", sft_checkpoint, BASE_TRIAL)
    return {"checkpoint": start, "problems": rl_problems}
