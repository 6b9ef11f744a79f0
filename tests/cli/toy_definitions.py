"""The toy life cycle of tests/lineage as Dagster assets, made with the real decorator, and its job."""

from __future__ import annotations

import dagster as dg
from toy_life_cycle import STAGES

from assets.partitions import LANGUAGES, MODEL_EVALUATIONS, TRIALS
from assets.stage_asset import many, stage_asset
from codellm_dag.automation import without_partitions
from resources import build_resources

_EVERY = dg.AllPartitionMapping()


def _asset(name, **options):
    return stage_asset(group="toys", owner="team:toys", kinds=(), stage=STAGES[name], **options)


@_asset("raw_corpus", partitions=LANGUAGES, prepare=lambda recipe, _: recipe)
def raw_corpus():
    """Files."""
    return {"python": {}}


@_asset("clean_corpus", partitions=LANGUAGES)
def clean_corpus(raw_corpus):
    """Long enough files."""
    return {language: {"corpus": corpus} for language, corpus in raw_corpus.items()}


@_asset("mixture")
def mixture(clean_corpus):
    """Train and heldout."""
    return many("corpus", clean_corpus)


@_asset("pretrained_checkpoint", model="pretrained")
def pretrained_checkpoint(mixture):
    """A number."""
    return {"corpus": mixture}


@_asset("sft_checkpoint", partitions=TRIALS, model="sft")
def sft_checkpoint(pretrained_checkpoint):
    """A better number."""
    return {"checkpoint": pretrained_checkpoint}


@_asset("samples", partitions=MODEL_EVALUATIONS, mappings={"sft_checkpoint": _EVERY})
def samples(pretrained_checkpoint, sft_checkpoint):
    """Rounded numbers."""
    return {
        "pretrained|microbench": {"checkpoint": pretrained_checkpoint},
        "sft|microbench": {"checkpoint": sft_checkpoint["base"]},
    }


@_asset("eval_report", partitions=MODEL_EVALUATIONS, mappings={"samples": _EVERY})
def eval_report(samples):
    """Scores."""
    return {key: {"samples": artifact} for key, artifact in samples.items()}


@dg.asset_check(asset="clean_corpus", blocking=True, required_resource_keys={"store"})
def something_is_left(context):
    """A blocking check."""
    store = context.resources.store.open()
    documents = store.manifest(store.refs.artifact("clean_corpus", "python")).metrics["documents"]
    return dg.AssetCheckResult(passed=documents > 0, description=f"{documents} documents are left")


_ASSETS = [raw_corpus, clean_corpus, mixture, pretrained_checkpoint, sft_checkpoint, samples, eval_report]
_JOB = dg.define_asset_job("lifecycle", "*", executor_def=dg.in_process_executor)

defs = dg.Definitions(
    assets=without_partitions(_ASSETS),
    asset_checks=[something_is_left],
    jobs=[_JOB],
    resources=build_resources(),
)
