"""Recipes of the tokens room: training the tokenizer, and turning text into packed token shards."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field

from codellm_dag.recipes.base import Recipe


class TokenizerRecipe(Recipe):
    """Byte-level BPE trained on the mixture's training documents."""

    vocabulary_size: int = Field(
        default=2048,
        ge=320,
        le=262_144,
        description="Entries, special tokens included. Small because the laptop model is small: at width 192 "
        "each 1,024 entries cost 0.2 M parameters and their share of every step (own measurement).",
    )
    training_bytes: int = Field(
        default=16_000_000,
        ge=1_000,
        le=100_000_000_000,
        description="Bytes of text to learn merges from, taken from documents in order of their id (which is "
        "a hash, so a fair sample). 16 MB take about 10 CPU-seconds (own measurement).",
    )
    minimum_frequency: int = Field(
        default=2,
        ge=1,
        le=1_000_000,
        description="Least count of a pair that is merged.",
    )
    pre_tokenizer: Literal["qwen2"] = Field(
        default="qwen2",
        description="Rule that splits text before merging: Qwen2's regular expression, in which every digit "
        "is a token of its own (Qwen2 tokenizer.json).",
    )


class ShardsRecipe(Recipe):
    """Encoding, fill-in-the-middle and packing of one language's documents."""

    language: str = Field(
        default="",
        description="The language of the documents; the asset's partition key replaces it. Empty takes all.",
    )
    sequence_length: int = Field(
        default=256,
        ge=16,
        le=1_048_576,
        description="Tokens of one packed row. 256 holds every prompt and answer of the laptop's tasks.",
    )
    fim_rate: float = Field(
        default=0.3,
        ge=0.0,
        le=1.0,
        description="Share of documents rewritten for fill-in-the-middle. Bavarian et al. 2022 "
        "(arXiv:2207.14255) find up to 0.9 free of charge for large models; StarCoder uses 0.5.",
    )
    fim_spm_rate: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="Share of those in suffix-prefix-middle order, the rest in prefix-suffix-middle order "
        "(arXiv:2207.14255 trains both half and half).",
    )
    packing: Literal["sequential", "best_fit"] = Field(
        default="best_fit",
        description="How pieces of documents are laid into rows: one after the other, cut at row ends "
        "(sequential), or whole wherever they fit best (Ding et al. 2024, arXiv:2404.10830).",
    )
    maximum_tokens: int = Field(
        default=0,
        ge=0,
        description="Tokens to keep of this language, in order of document id; 0 keeps all.",
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Seed of fill-in-the-middle.")

    def for_partition(self, key: str) -> Self:
        """This recipe for the language named by the partition `key`."""
        return self.model_copy(update={"language": key})
