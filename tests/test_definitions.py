"""The graph as it is, compared with the one that was accepted: ``tests/definitions.json``.

To accept a change, write the file anew with ``UPDATE_SNAPSHOT=1 pytest tests/test_definitions.py`` and read
its difference before committing it.
"""

import json
import os
import runpy
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from codellm_dag.definitions import defs
from codellm_dag.stages.registry import STAGES

SNAPSHOT = Path(__file__).parent / "definitions.json"
EXPERIMENTS = {
    *("scaling_ladder", "critical_batch_size", "batch_warmup", "mixture_trials", "model_growth"),
    *("framework_checkpoint", "sft_frameworks"),
}
"""Stages that train outside of the life cycle."""


def partitions_name(partitions: dg.PartitionsDefinition | None) -> Any:
    """A partitions definition in words."""
    if isinstance(partitions, dg.StaticPartitionsDefinition):
        return list(partitions.get_partition_keys())
    if isinstance(partitions, dg.DynamicPartitionsDefinition):
        return f"dynamic: {partitions.name}"
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        return {
            dimension.name: partitions_name(dimension.partitions_def)
            for dimension in partitions.partitions_defs
        }
    return partitions and str(partitions)


def snapshot() -> dict[str, Any]:
    """Everything about the code location that a person would notice if it changed."""
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    checks: dict[str, dict[str, bool]] = {}
    for holder in [*(defs.asset_checks or []), *(defs.assets or [])]:
        assert isinstance(holder, dg.AssetsDefinition)
        for check in holder.check_specs:
            checks.setdefault(check.asset_key.to_user_string(), {})[check.name] = check.blocking
    assets = {
        name: {
            "group": spec.group_name,
            "kinds": sorted(spec.kinds),
            "owners": list(spec.owners),
            "description": spec.description,
            "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            "partitions": partitions_name(spec.partitions_def),
            "artifact": spec.tags["artifact"],
            "automation": spec.automation_condition is not None,
            "blocking checks": sorted(name for name, blocking in checks.get(name, {}).items() if blocking),
        }
        for name, spec in sorted(specs.items())
    }
    jobs = {
        job.name: sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
        for job in defs.jobs or []
        if isinstance(job, dg.JobDefinition)
    }
    return {
        "assets": assets,
        "jobs": jobs,
        "schedules": {item.name: item.job_name for item in defs.schedules or []},
        "sensors": {item.name: item.job_name for item in defs.sensors or []},
        "resources": sorted(defs.resources or {}),
    }


def test_the_graph_is_the_one_that_was_accepted():
    found = json.dumps(snapshot(), indent=1, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_SNAPSHOT"):
        SNAPSHOT.write_text(found)
    assert found == SNAPSHOT.read_text(), "see this module's docstring"


def test_every_stage_is_an_asset_and_every_asset_a_stage():
    assert sorted(snapshot()["assets"]) == sorted(STAGES)


def test_every_asset_gives_its_stage_what_the_stage_takes():
    """Slots and upstream assets agree in kind: an asset's upstream kinds are its slots' kinds."""
    assets = snapshot()["assets"]
    for name, stage in STAGES.items():
        upstream = {assets[dep]["artifact"] for dep in assets[name]["deps"]}
        taken = {kind for kinds in stage.slots.values() for kind in kinds.split("|")}
        assert upstream == taken, name


JOBS = ["lifecycle", "corpora", "pretrain", "post_train", "evaluate", "instructions", "retrain"]


@pytest.mark.parametrize("job", JOBS)
def test_a_job_spans_partitions_in_one_process(job):
    definition = defs.get_job_def(job)
    assert definition.partitions_def is None
    assert definition.executor_def.name == "in_process"


def test_code_versions_are_code_digests():
    for spec in defs.resolve_all_asset_specs():
        assert spec.code_version
        assert len(spec.code_version) == 16


def test_stages_that_need_gpus_share_a_pool_in_the_graph_and_in_jobs():
    wanted = {"pretrained_checkpoint", "sft_checkpoint", "rl_policy", "samples"}
    nodes = {
        asset.op.name: asset.op.pool for asset in defs.assets or [] if isinstance(asset, dg.AssetsDefinition)
    }
    assert {name for name, pool in nodes.items() if pool == "gpu"} == wanted | EXPERIMENTS
    (lifecycle,) = [job for job in defs.jobs or [] if job.name == "lifecycle"]
    assert isinstance(lifecycle, dg.JobDefinition)
    assert {node.name for node in lifecycle.all_node_defs if getattr(node, "pool", None) == "gpu"} == wanted


def test_partitions_of_assets_map_to_partitions_of_their_inputs():
    """Dagster's own check, as `dagster definitions validate` makes it."""
    defs.resolve_asset_graph().validate_partitions()


def test_the_readmes_picture_is_of_this_graph():
    script = Path(__file__).parents[1] / "scripts" / "asset_graph.py"
    drawn = runpy.run_path(str(script))
    expected = drawn["drawing"](drawn["asset_graph"]())
    assert drawn["PICTURE"].read_text() == expected, "run: python scripts/asset_graph.py"


def test_a_server_can_load_the_code_location():
    """What `dagster dev` does, and `dagster job execute` does not: every job at once, names checked."""
    defs.get_repository_def().load_all_definitions()
