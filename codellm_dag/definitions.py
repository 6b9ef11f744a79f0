"""The Dagster code location: ``dagster dev -m codellm_dag.definitions``."""

from __future__ import annotations

import dagster as dg

from assets import checkpoints, checks, corpora, evals, experiments, instructions, policies, tokens
from codellm_dag.automation import build_jobs, corpus_growth, reaper, weekly_retrain
from resources import build_resources
from resources.launcher import chosen_launcher

_assets = [
    asset
    for asset in dg.load_assets_from_modules(
        [corpora, tokens, instructions, checkpoints, policies, evals, experiments]
    )
    if isinstance(asset, dg.AssetsDefinition)
]
_checks = dg.load_asset_checks_from_modules([checks])
_resources = build_resources()
_jobs = {job.name: job for job in build_jobs(_assets, _checks, _resources)}

defs = dg.Definitions(
    assets=_assets,
    asset_checks=_checks,
    jobs=list(_jobs.values()),
    schedules=[weekly_retrain(_jobs["retrain"])],
    sensors=[corpus_growth(_jobs["retrain"]), *([reaper()] if chosen_launcher() == "kubernetes" else [])],
    resources=_resources,
    executor=dg.in_process_executor,
)
