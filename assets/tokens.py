"""Group tokens: the tokenizer and packed, memory-mappable shards of tokens."""

from __future__ import annotations

import dagster as dg

from assets.partitions import LANGUAGES
from assets.stage_asset import Inputs, Requests, input_keys, stage_asset
from codellm_dag.store import Artifact


@stage_asset(group="tokens", owner="team:data", kinds={"huggingface"})
def tokenizer(mixture: Artifact) -> Inputs:
    """Byte-level BPE trained on the mixture, with fill-in-the-middle and chat tokens."""
    return {"corpus": mixture}


@stage_asset(group="tokens", owner="team:data", kinds={"numpy"}, partitions=LANGUAGES)
def token_shards(context: dg.AssetExecutionContext, mixture: Artifact, tokenizer: Artifact) -> Requests:
    """One language of the mixture as packed rows of tokens that never attend across documents."""
    languages = input_keys(context, mixture, "corpus")
    return {language: {"corpus": mixture, "tokenizer": tokenizer} for language in languages}
