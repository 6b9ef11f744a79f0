"""Recipes of the corpora room: where text comes from, what cleaning removes, how languages are mixed.

Not covered: what a step does (``codellm_dag/corpora/steps``), where a source's bytes lie on this machine
(``codellm_dag/corpora/sources``), and how many documents the cleaning may remove before a run stops
(`removal_bounds.py`).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from codellm_dag.recipes.base import Recipe
from codellm_dag.recipes.sources import LANGUAGES, Language, LicenceExpression, SourceRecipe

StepName = Literal["licence", "quality", "exact_dedup", "near_dedup", "decontamination"]
"""The cleaning steps; each is one file of ``codellm_dag/corpora/steps`` and one field of the recipe."""


class RawCorpusRecipe(Recipe):
    """What `raw_corpus` reads. The whole recipe lists every language; a partition sees its own sources."""

    sources: list[SourceRecipe] = Field(
        default_factory=lambda: [SourceRecipe(kind="python_stdlib", language="python")],
        description="The sources, read in this order.",
    )

    def for_partition(self, key: str) -> RawCorpusRecipe:
        """The sources of one language (none when the recipe has none for it)."""
        return RawCorpusRecipe(sources=[source for source in self.sources if source.language == key])

    def languages(self) -> tuple[str, ...]:
        """The languages that have a source, in the order of `LANGUAGES`."""
        return tuple(key for key in LANGUAGES if any(source.language == key for source in self.sources))


class LicenceRecipe(Recipe):
    """Removes documents whose licence does not allow training on them."""

    allow: list[LicenceExpression] = Field(
        default_factory=lambda: [
            "0BSD",
            "Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "BSD-2-Clause",
            "BSD-3-Clause",
            "BSL-1.0",
            "CC0-1.0",
            "ISC",
            "MIT",
            "MIT-0",
            "PSF-2.0",
            "Python-2.0",
            "Unicode-3.0",
            "Unlicense",
            "Zlib",
        ],
        min_length=1,
        description="SPDX ids that may be trained on. 'A OR B' needs one of the two, 'A AND B' both. "
        "Default: permissive licences, as The Stack (arXiv:2211.15533) chose.",
    )
    allow_unknown: bool = Field(
        default=False, description="Keep documents without a licence or with one that is not valid SPDX."
    )

    @model_validator(mode="after")
    def _single_ids(self) -> Self:
        for entry in self.allow:
            if not entry or " AND " in entry or " OR " in entry:
                raise ValueError(f"'allow' holds single SPDX ids, not {entry!r}; list each id on its own")
        return self


class QualityRecipe(Recipe):
    """Removes documents that are not code a person wrote. Line rules: those of StarCoder's data
    (github.com/bigcode-project/bigcode-dataset, preprocessing/filtering.py).
    """

    min_bytes: int = Field(default=64, ge=0, description="Fewest bytes of a document.")
    max_bytes: int = Field(default=1_000_000, ge=1, description="Most bytes of a document.")
    max_mean_line_length: float = Field(
        default=100.0, gt=0, description="Longest mean line, in characters (StarCoder: 100)."
    )
    max_line_length: int = Field(
        default=1000, ge=1, description="Longest line, in characters (StarCoder: 1000)."
    )
    min_alphanumeric_fraction: float = Field(
        default=0.25, ge=0, le=1, description="Least share of letters and digits (StarCoder: 0.25)."
    )
    generated_marker_lines: int = Field(
        default=5,
        ge=0,
        description="First lines searched for 'auto-generated' and the like (Codex, arXiv:2107.03374, and "
        "CodeParrot: 5); 0: not searched.",
    )
    python_must_parse: bool = Field(
        default=True, description="Remove Python that the running interpreter cannot parse."
    )


class ExactDedupRecipe(Recipe):
    """Removes documents whose text equals an earlier one's; its `document_id` is the key."""

    ignore_trailing_whitespace: bool = Field(
        default=True, description="Compare texts with line ends normalised and trailing blanks removed."
    )


class NearDedupRecipe(Recipe):
    """Removes documents similar to one that was kept: MinHash finds candidates, exact Jaccard decides."""

    words_per_shingle: int = Field(
        default=5,
        ge=1,
        le=50,
        description="Words in a shingle (StarCoder: 5). Character shingles flag twice as many files of code.",
    )
    bands: int = Field(
        default=32,
        ge=1,
        le=512,
        description="LSH bands. A pair of similarity s becomes a candidate with probability "
        "1 - (1 - s^rows)^bands: 0.9998 for 0.7 with 32 × 4.",
    )
    rows: int = Field(default=4, ge=1, le=64, description="MinHash values in a band.")
    jaccard_threshold: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="Least Jaccard similarity of the shingle sets to be removed (StarCoder: 0.7).",
    )
    seed: int = Field(default=0, ge=0, description="Seed of the hash functions.")


class DecontaminationRecipe(Recipe):
    """Removes documents that share word n-grams with a benchmark problem's prompt and solution."""

    words_per_ngram: int = Field(
        default=10,
        ge=4,
        le=50,
        description="Words in an n-gram (10: Qwen2.5-Coder, arXiv:2409.12186, section 5). A problem with "
        "fewer words is looked for whole.",
    )
    min_names: int = Field(
        default=3,
        ge=0,
        description="Words of an n-gram that must be longer than one character and not a number, or it is "
        "not looked for: '0 1 2 … 9' stands in HumanEval/78 and in any lexer.",
    )
    min_shared_ngrams: int = Field(
        default=1, ge=1, description="Distinct n-grams of one problem that a document must hold to go."
    )


class CleanCorpusRecipe(Recipe):
    """What `clean_corpus` removes: the steps, in order, and the knobs of each."""

    steps: list[StepName] = Field(
        default_factory=lambda: ["licence", "quality", "exact_dedup", "near_dedup", "decontamination"],
        description="The steps, in the order they run; a step that is not listed does not run.",
    )
    licence: LicenceRecipe = Field(default_factory=LicenceRecipe, description="The licence filter.")
    quality: QualityRecipe = Field(default_factory=QualityRecipe, description="The quality filter.")
    exact_dedup: ExactDedupRecipe = Field(default_factory=ExactDedupRecipe, description="Exact duplicates.")
    near_dedup: NearDedupRecipe = Field(default_factory=NearDedupRecipe, description="Near duplicates.")
    decontamination: DecontaminationRecipe = Field(
        default_factory=DecontaminationRecipe, description="Overlap with benchmarks."
    )

    @model_validator(mode="after")
    def _each_step_once(self) -> Self:
        twice = sorted({step for step in self.steps if self.steps.count(step) > 1})
        if twice:
            raise ValueError(f"'steps' names {', '.join(twice)} more than once; each step runs at most once")
        return self


class LanguageWeight(Recipe):
    """The share one language gets of the mixture, relative to the other weights."""

    language: Language = Field(description="The language.")
    weight: float = Field(gt=0, description="Its weight, relative to the others' (any positive scale).")


class MixtureRecipe(Recipe):
    """How `mixture` puts the languages together and holds documents out."""

    weights: list[LanguageWeight] = Field(
        default_factory=list,
        description="Target shares of the training documents. Empty: every document is taken once (natural "
        "shares). No document is repeated: the language that is scarcest for its weight is taken whole and "
        "the others are cut. A language without a weight is left out.",
    )
    weigh_by: Literal["bytes", "documents"] = Field(
        default="bytes", description="What the weights are shares of."
    )
    max_train_bytes: int = Field(
        default=0, ge=0, description="Most bytes of training text, all languages together (0: no limit)."
    )
    heldout_fraction: float = Field(
        default=0.05,
        ge=0,
        le=0.5,
        description="Share of documents held out for evaluation, chosen by hash of `seed` and document_id.",
    )
    max_heldout_bytes: int = Field(
        default=400_000,
        ge=0,
        description="Most bytes held out of one language (bounds the cost of bits per byte); chosen "
        "documents beyond it are trained on.",
    )
    seed: int = Field(default=0, ge=0, description="Which documents are held out, and which are cut.")

    @model_validator(mode="after")
    def _each_language_once(self) -> Self:
        named = [entry.language for entry in self.weights]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"'weights' names {', '.join(twice)} more than once; give each language one")
        return self
